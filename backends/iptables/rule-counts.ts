// What changes of rules amount to, in numbers and in words.
import type { SyncCounts } from '../backend.ts';
import type { ChainPlace, RuleChanges } from './rule-changes.ts';

const contents = ({ content = [] }: RuleChanges) => content.flat();

export function isEmpty(changes: RuleChanges): boolean {
  const { tables, content, insert, jumps, deleteRules, deleteChains } = changes;
  return [tables, content, insert, jumps, deleteRules, deleteChains].every((list) => (list?.length ?? 0) === 0);
}

/** Adds rules written and deleted, and chains and tables touched. */
export function countChanges(changes: RuleChanges, counts: SyncCounts): void {
  const { tables = [], insert = [], jumps = [], deleteRules = [], deleteChains = [] } = changes;
  const chains = contents(changes);
  counts.added += insert.length + jumps.length + chains.reduce((sum, { rules }) => sum + (rules?.length ?? 0), 0);
  counts.deleted += deleteRules.length;
  counts.objects += tables.length + chains.length + deleteChains.length;
}

/** For the log: what was missing, changed or too much. What a missing table takes with it is not told one by one. */
export function describeChanges(changes: RuleChanges): string {
  const MOST = 8;
  const { family, tables = [], deleteRules = [], deleteChains = [] } = changes;
  const isTold = ({ table }: ChainPlace): boolean => !tables.includes(table);
  const jumps = (changes.jumps ?? []).filter(isTold);
  const insert = (changes.insert ?? []).filter(isTold);
  const parts = [
    ...tables.map((table) => `table ${table} missing`),
    ...jumps.map(({ table, chain, rule }) => {
      const to = rule.target?.target === 'jump' ? rule.target.chain : '';
      return `jump from ${table} ${chain} to ${to} missing`;
    }),
    ...contents(changes)
      .filter(isTold)
      .map(({ table, chain, exists }) => `${table} ${chain} ${exists ? 'changed' : 'missing'}`),
    ...(insert.length > 0 ? [`${insert.length} rules missing`] : []),
    ...(deleteRules.length > 0 ? [`${deleteRules.length} rules not ours`] : []),
    ...deleteChains.map(({ table, chain }) => `${table} ${chain} not wanted`),
  ];
  const more = parts.length > MOST ? `, and ${parts.length - MOST} more` : '';
  return `${family} ${parts.slice(0, MOST).join(', ')}${more}`;
}
