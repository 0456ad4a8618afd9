// How rules are read and written: the same for the nft family over netlink and for legacy through its tools.
import type { Family } from '../../native/ip.ts';
import type { WriteResult } from './netlink-writer.ts';
import type { KernelRules } from './read.ts';
import type { RuleChanges } from './rule-changes.ts';

export interface RuleWriter {
  /** Which tool family lists these rules. */
  readonly variant: 'nft' | 'legacy';
  /** null when the family can be used, else why not (I-50). */
  probe(family: Family): Promise<string | null>;
  /** Chains of proxies and the built-in chains. */
  read(family: Family): Promise<KernelRules>;
  /** With `generation`, only if nothing has changed since it was read. */
  commit(changes: readonly RuleChanges[], generation?: number): Promise<WriteResult>;
  close(): void;
}
