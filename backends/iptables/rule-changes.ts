// What a transaction is to change, and the messages of it in the order that keeps every prefix consistent: nothing
// ever points at a chain that is missing or still empty, and nothing goes before what replaces it is there.
import type { Family } from '../../native/ip.ts';
import type { Rule, Table } from './rule.ts';

export interface ChainPlace {
  readonly table: Table;
  readonly chain: string;
}

/** A chain with all its rules. */
export interface ChainContent extends ChainPlace {
  /** null: the chain is to exist, and what it holds is not ours to say. */
  readonly rules: readonly Rule[] | null;
  /** Whether the kernel has the chain, as far as known; being wrong is a refusal (EEXIST, ENOENT). */
  readonly exists: boolean;
}

/** A rule to add to a chain whose other rules stay. */
export interface Insertion extends ChainPlace {
  readonly rule: Rule;
  /** Handle of the rule to put it in front of; null: at the end. */
  readonly before: number | null;
}

export interface Jump extends ChainPlace {
  readonly rule: Rule;
}

export interface RuleHandle extends ChainPlace {
  readonly handle: number;
  /** What it says; tools that know no handles delete by this. Absent for a rule that is not ours. */
  readonly rule?: Rule;
}

/** Changes of one family. */
export interface RuleChanges {
  readonly family: Family;
  /** Tables that must exist. The built-in chains of `jumps` are created as well. */
  readonly tables?: readonly Table[];
  /**
   * Chains that get this content. A group is what must change together, such as the chains of a Service: it is not torn
   * apart when several transactions are needed. Groups stand behind those they jump to, chains within a group too.
   */
  readonly content?: readonly (readonly ChainContent[])[];
  readonly insert?: readonly Insertion[];
  /** Rules of built-in chains, each put at the top (I-5): the last one ends up first. */
  readonly jumps?: readonly Jump[];
  readonly deleteRules?: readonly RuleHandle[];
  /** With their rules. Nothing else may jump to them any more. */
  readonly deleteChains?: readonly ChainPlace[];
}

/** One message. */
export interface Step extends ChainPlace {
  readonly op: 'table' | 'builtIn' | 'chain' | 'newChain' | 'flush' | 'rule' | 'deleteRule' | 'deleteChain';
  readonly family: Family;
  readonly rule: Rule | null;
  /** Where a rule goes; the handle of one that is deleted. */
  readonly at: 'end' | 'top' | number;
  readonly insertion: Insertion | null;
  /** Whether a transaction may end before it: yes; only if a group does not fit; only if a chain does not fit. */
  readonly cut: Cut;
}

export const CUT = { never: 0, chain: 1, group: 2 } as const;
type Cut = (typeof CUT)[keyof typeof CUT];

/** The messages for some changes. */
export function* stepsOf(changes: RuleChanges): Generator<Step> {
  const { family, tables = [], content = [], insert = [], jumps = [], deleteRules = [], deleteChains = [] } = changes;
  const step = (op: Step['op'], { table, chain }: ChainPlace, fields: Partial<Step> = {}): Step => ({
    op,
    family,
    table,
    chain,
    rule: fields.rule ?? null,
    at: fields.at ?? 'end',
    insertion: fields.insertion ?? null,
    cut: fields.cut ?? CUT.group,
  });
  for (const table of tables) yield step('table', { table, chain: '' });
  const builtIn = new Set<string>();
  for (const jump of jumps) {
    const name = `${jump.table} ${jump.chain}`;
    if (!builtIn.has(name)) yield step('builtIn', jump);
    builtIn.add(name);
  }
  for (const group of content) {
    for (const place of group) {
      if (!place.exists) yield step('newChain', place);
      else if (place.rules === null) yield step('chain', place);
    }
  }
  for (const group of content) {
    let cut: Cut = CUT.group;
    for (const place of group) {
      if (place.rules === null) continue;
      if (place.exists) {
        yield step('flush', place, { cut });
        cut = CUT.never;
      }
      for (const rule of place.rules) {
        yield step('rule', place, { rule, cut });
        cut = CUT.never;
      }
      cut = CUT.chain;
    }
  }
  for (const insertion of insert) {
    yield step('rule', insertion, { rule: insertion.rule, at: insertion.before ?? 'end', insertion });
  }
  for (const jump of jumps) yield step('rule', jump, { rule: jump.rule, at: 'top' });
  for (const place of deleteRules) yield step('deleteRule', place, { at: place.handle });
  for (const place of deleteChains) yield step('flush', place);
  for (const place of deleteChains) yield step('deleteChain', place);
}

/** Where to end a transaction that has become too large: the place in `steps` of the first message of the next one. */
export function cutPoint(steps: readonly Step[]): number {
  for (const least of [CUT.group, CUT.chain]) {
    for (let i = steps.length - 1; i > 0; i--) if (steps[i]!.cut >= least) return i;
  }
  return steps.length - 1;
}
