// Reads the text of iptables-save: which chains there are, and each rule as the model has it. A rule with anything the
// model does not know is opaque: it keeps its text and equals no rule of ours.
import { BUILTIN_CHAINS } from './fixed-rules.ts';
import { parseRule } from './parse-rule.ts';
import { type Rule, TABLES, type Table } from './rule.ts';

export interface SavedRule {
  /** null: opaque. */
  readonly rule: Rule | null;
  /** As listed, without `-A CHAIN`. */
  readonly text: string;
}

export interface SavedTable {
  /** Policies of the built-in chains that are there. */
  readonly policies: ReadonlyMap<string, string>;
  /** All chains, built-in ones among them, with their rules in order. */
  readonly chains: ReadonlyMap<string, readonly SavedRule[]>;
}

/**
 * Tables other than those of the model are passed over. Packet counters, if listed, are not kept.
 * @throws Error on a line that does not belong into such a text, or when a table does not end.
 */
export function parseSave(text: string): Map<Table, SavedTable> {
  const out = new Map<Table, SavedTable>();
  let table: Table | 'other' | null = null;
  let policies = new Map<string, string>();
  let chains = new Map<string, SavedRule[]>();
  let number = 0;
  for (const line of text.split('\n')) {
    number++;
    if (line === '' || line.startsWith('#')) continue;
    const unexpected = (): Error => new Error(`iptables-save, line ${number}: unexpected "${line}"`);
    if (line.startsWith('*')) {
      if (table !== null) throw unexpected();
      table = TABLES.find((name) => name === line.slice(1)) ?? 'other';
      policies = new Map();
      chains = new Map();
    } else if (table === null) {
      throw unexpected();
    } else if (line === 'COMMIT') {
      if (table !== 'other') out.set(table, { policies, chains });
      table = null;
    } else if (line.startsWith(':')) {
      const [name = '', policy = ''] = line.slice(1).split(' ');
      chains.set(name, []);
      if (policy !== '-') policies.set(name, policy);
    } else {
      const [, chain = '', rule = ''] = /^(?:\[\d+:\d+\] )?-A (\S+) ?(.*)$/.exec(line) ?? [];
      const rules = chains.get(chain);
      if (rules === undefined) throw unexpected();
      rules.push({
        text: rule.trimEnd(),
        rule: parseRule(rule, (name) => chains.has(name) && !isBuiltin(table, name)),
      });
    }
  }
  if (table !== null) throw new Error(`iptables-save: table ${table} does not end`);
  return out;
}

const isBuiltin = (table: Table | 'other' | null, chain: string): boolean =>
  table !== null && table !== 'other' && BUILTIN_CHAINS[table].includes(chain);
