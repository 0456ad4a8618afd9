// Tables as iptables-save prints them: for people, and for comparing with the tools.
import type { Family } from '../../native/ip.ts';
import { BUILTIN_CHAINS } from './fixed-rules.ts';
import { type Rule, TABLES, type Table } from './rule.ts';
import { ruleText } from './rule-text.ts';
import type { Tables } from './ruleset.ts';

/** The text in one piece; tables without chains are left out. */
export function saveText(tables: Tables, family: Family): string {
  return [...saveTextParts(tables, family)].join('');
}

/** Rules a part has at least, unless it is the last of its table. */
const PART_RULES = 1000;

/** The same in parts that take little time each. The chains must not change meanwhile. */
export function* saveTextParts(tables: Tables, family: Family): Generator<string> {
  for (const table of TABLES) {
    const chains = inOrder(table, tables[table]);
    if (chains.length === 0) continue;
    let out = `*${table}\n`;
    for (const [name] of chains) {
      out += `:${name} ${BUILTIN_CHAINS[table].includes(name) ? 'ACCEPT' : '-'} [0:0]\n`;
    }
    let count = 0;
    for (const [name, rules] of chains) {
      for (const rule of rules) out += ruleLine(name, rule, family);
      if ((count += rules.length) < PART_RULES) continue;
      yield out;
      [out, count] = ['', 0];
    }
    yield `${out}COMMIT\n`;
  }
}

/** Built-in chains in the order of their hooks, then the others by name. */
function inOrder(table: Table, chains: ReadonlyMap<string, readonly Rule[]>): [string, readonly Rule[]][] {
  const builtin = BUILTIN_CHAINS[table];
  const own = [...chains.keys()].filter((name) => !builtin.includes(name)).sort();
  const names = [...builtin.filter((name) => chains.has(name)), ...own];
  return names.map((name) => [name, chains.get(name)!]);
}

function ruleLine(chain: string, rule: Rule, family: Family): string {
  const text = ruleText(rule, family, 'save');
  return `-A ${chain}${text === '' ? '' : ` ${text}`}\n`;
}
