// Input for `iptables-restore --noflush --counters`: only what is to change. A chain that is declared is made if it is
// missing and emptied if not; chains that are not named stay as they are (I-36, I-38). Each table is one transaction.
import { type Rule, TABLES, type Table } from './rule.ts';
import type { RuleChanges, RuleHandle } from './rule-changes.ts';
import { ruleText } from './rule-text.ts';

/** A line with what it is about; lines count from 1, as the tools count them. */
export interface RestoreLine {
  readonly text: string;
  readonly table: Table;
  /** null for the first and the last line of a table. */
  readonly chain: string | null;
  /** The very object that was given, if the line is about a rule. */
  readonly rule: Rule | null;
}

/** Options of a rule that is to be deleted and is not in the model. */
export type TextOfOpaque = (place: RuleHandle) => string;

/** No lines when there is nothing to change. The changes must not change meanwhile. */
export function* restoreLines(changes: RuleChanges, opaque: TextOfOpaque): Generator<RestoreLine> {
  for (const table of TABLES) {
    let begun = false;
    const line = (text: string): RestoreLine => ({ text, table, chain: null, rule: null });
    if (changes.tables?.includes(table)) {
      yield line(`*${table}`);
      begun = true;
    }
    for (const inner of tableLines(changes, table, opaque)) {
      if (!begun) yield line(`*${table}`);
      begun = true;
      yield inner;
    }
    if (begun) yield line('COMMIT');
  }
}

function* tableLines(changes: RuleChanges, table: Table, opaque: TextOfOpaque): Generator<RestoreLine> {
  const { family, content = [], insert = [], jumps = [], deleteRules = [], deleteChains = [] } = changes;
  const about = (chain: string, text: string): RestoreLine => ({ text, table, chain, rule: null });
  const line = (command: string, chain: string, rule: Rule): RestoreLine => {
    const text = ruleText(rule, family, 'restore');
    return { text: text === '' ? `${command} ${chain}` : `${command} ${chain} ${text}`, table, chain, rule };
  };
  const declared: string[] = [];
  for (const group of content) {
    for (const place of group) if (place.table === table && place.rules !== null) declared.push(place.chain);
  }
  for (const place of deleteChains) if (place.table === table) declared.push(place.chain);
  // In this order they cost the nft variant less.
  for (const name of declared.sort()) yield about(name, `:${name} - [0:0]`);
  // A declaration would empty one that somebody else makes at this moment.
  for (const group of content) {
    for (const { table: of, chain, rules, exists } of group) {
      if (of === table && rules === null && !exists) yield about(chain, `-N ${chain}`);
    }
  }
  for (const group of content) {
    for (const { table: of, chain, rules } of group) {
      if (of === table) for (const rule of rules ?? []) yield line('-A', chain, rule);
    }
  }
  // Any place in front of the rules that are last by design will do.
  for (const { table: of, chain, rule, before } of insert) {
    if (of === table) yield line(before === null ? '-A' : '-I', chain, rule);
  }
  for (const { table: of, chain, rule } of jumps) if (of === table) yield line('-I', chain, rule);
  for (const place of deleteRules) {
    if (place.table !== table) continue;
    if (place.rule) yield line('-D', place.chain, place.rule);
    else yield about(place.chain, `-D ${place.chain} ${opaque(place)}`);
  }
  for (const { table: of, chain } of deleteChains) if (of === table) yield about(chain, `-X ${chain}`);
}
