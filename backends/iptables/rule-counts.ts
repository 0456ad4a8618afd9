// What changes of rules amount to, in numbers and in words.
import type { Family } from '../../native/ip.ts';
import type { RuleFigures, SyncCounts } from '../backend.ts';
import type { NodeSettings } from '../service-plan.ts';
import type { Table } from './rule.ts';
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

/** Rules by table; the others hold none but jumps. */
export type RuleCount = Record<'filter' | 'nat', number>;

export const noRules = (): RuleCount => ({ filter: 0, nat: 0 });

/** Adds `rules` rules of a table, where it is one that is counted. */
export function addRules(count: RuleCount, table: Table, rules: number): void {
  if (table === 'filter' || table === 'nat') count[table] += rules;
}

/** Rules that these changes write, without jumps from chains of others. */
export function writtenRules(changes: RuleChanges): RuleCount {
  const count = noRules();
  for (const { table, rules } of contents(changes)) addRules(count, table, rules?.length ?? 0);
  for (const { table } of changes.insert ?? []) addRules(count, table, 1);
  return count;
}

/** For metrics; null: nothing has been written. What is counted of a family's rules. */
export function figuresOf(
  families: Iterable<{
    readonly family: Family;
    readonly written: Readonly<RuleCount>;
    owned(settings: NodeSettings): RuleCount;
  }>,
  settings: NodeSettings | null,
): RuleFigures[] {
  if (settings === null) return [];
  return [...families].flatMap((rules) => {
    const { family, written } = rules;
    const owned = rules.owned(settings);
    return (['filter', 'nat'] as const).map((table) => ({
      family,
      table,
      owned: owned[table],
      written: written[table],
    }));
  });
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
