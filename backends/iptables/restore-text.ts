// Input for `iptables-restore --noflush --counters`: only what is to change. A chain that is given is made if it is
// missing and gets exactly these rules; chains that are not given stay as they are (I-36, I-38).
import type { Family } from '../../native/ip.ts';
import { type Rule, TABLES, type Table } from './rule.ts';
import { ruleText } from './rule-text.ts';

/** A rule in a chain that is not ours as a whole. */
export interface PlacedRule {
  readonly chain: string;
  readonly rule: Rule;
}

/** Changes of one table, made in the order of these fields. */
export interface TableChanges {
  /** Chains with their whole content. */
  readonly chains?: ReadonlyMap<string, readonly Rule[]>;
  /** Put at the top of their chains, each above those before it. */
  readonly inserted?: readonly PlacedRule[];
  /** Deleted once each; the tool refuses everything when one does not exist. */
  readonly removed?: readonly PlacedRule[];
  /** Chains that go, whatever is in them; nothing else may lead to them any more. */
  readonly deleted?: readonly string[];
}

export type RestoreChanges = Readonly<Partial<Record<Table, TableChanges>>>;

/** '' when there is nothing to change. */
export function restoreText(changes: RestoreChanges, family: Family): string {
  return [...restoreTextParts(changes, family)].join('');
}

/** Lines a part has at least, unless it is the last of its table. */
const PART_LINES = 5000;

/** The same in parts that take little time each. The chains must not change meanwhile. */
export function* restoreTextParts(changes: RestoreChanges, family: Family): Generator<string> {
  for (const table of TABLES) {
    let out: string[] = [];
    let first = true;
    for (const line of tableLines(changes[table] ?? {}, family)) {
      if (first) out.push(`*${table}\n`);
      first = false;
      out.push(`${line}\n`);
      if (out.length < PART_LINES) continue;
      yield out.join('');
      out = [];
    }
    if (!first) yield `${out.join('')}COMMIT\n`;
  }
}

function* tableLines(changes: TableChanges, family: Family): Generator<string> {
  const { chains = new Map(), inserted = [], removed = [], deleted = [] } = changes;
  const line = (command: string, chain: string, rule: Rule): string => {
    const text = ruleText(rule, family, 'restore');
    return `${command} ${chain}${text === '' ? '' : ` ${text}`}`;
  };
  // Sorted declarations cost the nft variant less.
  for (const name of [...chains.keys(), ...deleted].sort()) yield `:${name} - [0:0]`;
  for (const [chain, rules] of chains) for (const rule of rules) yield line('-A', chain, rule);
  for (const { chain, rule } of inserted) yield line('-I', chain, rule);
  for (const { chain, rule } of removed) yield line('-D', chain, rule);
  for (const chain of deleted) yield `-X ${chain}`;
}
