// How a rule tells packets of this node's pods from others (S-64).
import type { DetectLocal } from '../service-plan.ts';
import type { Rule } from './rule.ts';

type Where = Pick<Rule, 'source' | 'input'>;

export interface Detector {
  /** Conditions that packets of local pods meet. */
  readonly inside: Where;
  /** Conditions that all others meet; null when there are no others. */
  readonly outside: Where | null;
}

/** null when no way is configured (S-65). */
export function detectorOf(detectLocal: DetectLocal | null): Detector | null {
  if (detectLocal === null) return null;
  if (detectLocal.by === 'cidr') {
    const { cidr } = detectLocal;
    // The tools write no condition for it, and cannot write its opposite.
    if (cidr.endsWith('/0')) return { inside: {}, outside: null };
    return { inside: { source: { cidr, not: false } }, outside: { source: { cidr, not: true } } };
  }
  const prefix = detectLocal.by === 'interfacePrefix';
  const name = detectLocal.by === 'interfacePrefix' ? detectLocal.prefix : detectLocal.name;
  return { inside: { input: { name, prefix, not: false } }, outside: { input: { name, prefix, not: true } } };
}
