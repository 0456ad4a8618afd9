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

/** '' when there is nothing to change. */
export function restoreText(changes: Readonly<Partial<Record<Table, TableChanges>>>, family: Family): string {
  let out = '';
  for (const table of TABLES) out += tableText(table, changes[table] ?? {}, family);
  return out;
}

function tableText(table: Table, changes: TableChanges, family: Family): string {
  const { chains = new Map(), inserted = [], removed = [], deleted = [] } = changes;
  // Sorted declarations cost the nft variant less.
  const names = [...chains.keys(), ...deleted].sort();
  const lines = names.map((name) => `:${name} - [0:0]`);
  const line = (command: string, chain: string, rule: Rule): string => {
    const text = ruleText(rule, family, 'restore');
    return `${command} ${chain}${text === '' ? '' : ` ${text}`}`;
  };
  for (const [chain, rules] of chains) for (const rule of rules) lines.push(line('-A', chain, rule));
  for (const { chain, rule } of inserted) lines.push(line('-I', chain, rule));
  for (const { chain, rule } of removed) lines.push(line('-D', chain, rule));
  for (const chain of deleted) lines.push(`-X ${chain}`);
  return lines.length === 0 ? '' : `*${table}\n${lines.join('\n')}\nCOMMIT\n`;
}
