// Removes what a proxy has among iptables rules, ours and kube-proxy's alike: the jumps from built-in chains, word for
// word, and the chains (I-57, V-57). Everything else stays.
import type { Family } from '../../native/ip.ts';
import { BUILTIN_CHAINS } from './fixed-rules.ts';
import type { RuleRefusal } from './netlink-writer.ts';
import { type Leftovers, leftoversBeside } from './proxy-rules.ts';
import type { KernelRules, ListedRule } from './read.ts';
import { ruleKey, TABLES, type Table } from './rule.ts';
import type { ChainPlace, RuleHandle } from './rule-changes.ts';
import type { RuleWriter } from './rule-writer.ts';

const ATTEMPTS = 20;

export interface Departure {
  /** In words, one entry per family; empty when there was nothing. */
  readonly removed: readonly string[];
  /** What had to stay, and why; the rest is gone all the same. */
  readonly problems: readonly string[];
}

/** Families do not depend on each other: a failure in one is told among the problems. */
export async function leave(
  rules: RuleWriter,
  families: readonly Family[],
  leftovers: Leftovers = leftoversBeside(null),
): Promise<Departure> {
  const removed: string[] = [];
  const problems: string[] = [];
  for (const family of families) {
    const kept = new Map<string, string>();
    try {
      const changes = await leaveFamily(rules, family, leftovers, kept);
      if (changes) removed.push(`${family} (iptables-${rules.variant}): ${inWords(changes)}`);
    } catch (error) {
      problems.push(`${family} (iptables-${rules.variant}): ${(error as Error).message}`);
    }
    for (const [place, reason] of kept) {
      problems.push(`${family} (iptables-${rules.variant}): chain ${place} stays, with all it leads to: ${reason}`);
    }
  }
  return { removed, problems };
}

interface Leaving {
  readonly deleteRules: readonly RuleHandle[];
  readonly deleteChains: readonly ChainPlace[];
}

/** Chains that others' rules lead to cannot go; they are noted in `kept`. @returns what is gone, null for nothing. */
async function leaveFamily(
  rules: RuleWriter,
  family: Family,
  leftovers: Leftovers,
  kept: Map<string, string>,
): Promise<Leaving | null> {
  let all: Leaving | null = null;
  for (let attempt = 1; ; attempt++) {
    const kernel = await rules.read(family);
    const staying = withDescendants(kernel, kept.keys());
    const left = departure(kernel, leftovers, staying);
    const isStaying = ({ table, chain }: ChainPlace): boolean => staying.has(placeKey(table, chain));
    const gone = all && { ...all, deleteChains: all.deleteChains.filter((place) => !isStaying(place)) };
    if (left.deleteRules.length + left.deleteChains.length === 0) return gone;
    // A refusal may come after some tables are done.
    all ??= left;
    const generation = kernel.settled && kernel.generation > 0 ? kernel.generation : undefined;
    const result = await rules.commit([{ family, ...left }], generation);
    if (result.outcome === 'committed') return gone ?? left;
    const refusals = result.outcome === 'refused' ? result.refusals : [];
    const known = kept.size;
    for (const refusal of refusals) noteKept(refusal, left.deleteChains, kept);
    // Others work on the rules at the same time: what is there must be read again.
    if (kept.size === known && attempt >= ATTEMPTS) {
      const why = refusals.map(({ message }) => message).join('; ');
      throw new Error(why === '' ? 'the rules never stand still' : why);
    }
  }
}

const placeKey = (table: Table, chain: string): string => `${table} ${chain}`;

function noteKept(refusal: RuleRefusal, chains: readonly ChainPlace[], kept: Map<string, string>): void {
  const { code, table, chain, message } = refusal;
  if (code !== 'EBUSY' || table === null || !chains.some((c) => c.table === table && c.chain === chain)) return;
  kept.set(placeKey(table, chain!), message.split('\n')[0]!);
}

/** Chains and all that their rules lead to. */
function withDescendants(kernel: KernelRules, places: Iterable<string>): Set<string> {
  const out = new Set<string>();
  const visit = (table: Table, chain: string): void => {
    const key = placeKey(table, chain);
    if (out.has(key)) return;
    out.add(key);
    for (const { rule } of kernel.tables.get(table)?.get(chain) ?? []) {
      if (rule?.target?.target === 'jump') visit(table, rule.target.chain);
    }
  };
  for (const place of places) {
    const [table, chain] = place.split(' ') as [Table, string];
    visit(table, chain);
  }
  return out;
}

function departure(kernel: KernelRules, leftovers: Leftovers, staying: ReadonlySet<string>): Leaving {
  const jumps = new Set(leftovers.jumps.map(({ table, from, rule }) => `${table} ${from} ${ruleKey(rule)}`));
  const deleteRules: RuleHandle[] = [];
  const deleteChains: ChainPlace[] = [];
  for (const table of TABLES) {
    for (const [chain, listed] of kernel.tables.get(table) ?? new Map<string, readonly ListedRule[]>()) {
      for (const { handle, rule } of BUILTIN_CHAINS[table].includes(chain) ? listed : []) {
        if (rule && jumps.has(`${table} ${chain} ${ruleKey(rule)}`)) deleteRules.push({ table, chain, handle, rule });
      }
      if (leftovers.isChain(table, chain) && !staying.has(placeKey(table, chain))) deleteChains.push({ table, chain });
    }
  }
  return { deleteRules, deleteChains };
}

function inWords({ deleteRules, deleteChains }: Leaving): string {
  const amount = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;
  const counts = TABLES.flatMap((table) => {
    const count = deleteChains.filter((place) => place.table === table).length;
    return count > 0 ? [`${amount(count, 'chain')} of table ${table}`] : [];
  });
  if (deleteRules.length > 0) counts.unshift(amount(deleteRules.length, 'jump'));
  return counts.join(', ');
}
