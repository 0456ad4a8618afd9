// All checks, in the order they run: what later ones stand on comes first, what disturbs the cluster last.
import { APPLICATIONS } from './applications.ts';
import type { Check } from './check.ts';
import { OPERATIONS } from './operations.ts';
import { POLICIES } from './policies.ts';
import { REACHABILITY } from './reachability.ts';

export const CHECKS: readonly Check[] = [...REACHABILITY, ...POLICIES, ...APPLICATIONS, ...OPERATIONS];
