// Changes that lead from what the kernel holds to given tables, made the simple way: for tests of writers.
import { BUILTIN_CHAINS, FIREWALL_CHAIN } from '../../backends/iptables/fixed-rules.ts';
import type { KernelRules } from '../../backends/iptables/read.ts';
import { ruleKey, TABLES } from '../../backends/iptables/rule.ts';
import type { ChainContent, ChainPlace, Jump, RuleChanges } from '../../backends/iptables/rule-changes.ts';
import type { Tables } from '../../backends/iptables/ruleset.ts';
import type { Family } from '../../native/ip.ts';

/** What leads to others comes after them. */
const RANKS = ['MARK-MASQ', 'SEP-', 'SVC-', 'SVL-', 'EXT-', 'FW-', 'NODEPORTS', 'SERVICES'];
const rank = ({ chain }: ChainPlace): number => RANKS.findIndex((name) => chain.startsWith(`KUBE-${name}`));

/** All chains are written whole, also those that are right; but KUBE-FIREWALL is only made if it is missing. */
export function changesTo(tables: Tables, kernel: KernelRules, family: Family): RuleChanges {
  const content: ChainContent[] = [];
  const jumps: Jump[] = [];
  const deleteChains: ChainPlace[] = [];
  for (const table of TABLES) {
    const held = kernel.tables.get(table) ?? new Map<string, never>();
    for (const [chain, rules] of tables[table]) {
      if (chain === FIREWALL_CHAIN && held.has(chain)) continue;
      if (!BUILTIN_CHAINS[table].includes(chain)) {
        content.push({ table, chain, rules, exists: held.has(chain) });
        continue;
      }
      const keys = new Set((held.get(chain) ?? []).map(({ rule }) => rule && ruleKey(rule)));
      for (const rule of rules.toReversed()) if (!keys.has(ruleKey(rule))) jumps.push({ table, chain, rule });
    }
    for (const chain of held.keys())
      if (!BUILTIN_CHAINS[table].includes(chain) && !tables[table].has(chain)) deleteChains.push({ table, chain });
  }
  content.sort((a, b) => rank(a) - rank(b));
  return { family, tables: TABLES, content: content.map((place) => [place]), jumps, deleteChains };
}

/** Chains, and what their rules say in order; of built-in chains the rules of the model alone. */
export function inKernel({ tables }: KernelRules): Record<string, string[]> {
  const out: Record<string, string[]> = {};
  for (const [table, chains] of tables) {
    for (const [chain, listed] of chains) {
      const builtIn = BUILTIN_CHAINS[table].includes(chain);
      out[`${table} ${chain}`] = listed.flatMap(({ rule }) => (rule ? [ruleKey(rule)] : builtIn ? [] : ['opaque']));
    }
  }
  return out;
}
