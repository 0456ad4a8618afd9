// All tables of a family as they should be, put together from the plans of all Services; and the part of one Service.
import type { Family } from '../../native/ip.ts';
import type { NodeSettings, ServicePlan } from '../service-plan.ts';
import { FIREWALL_CHAIN, fixedChains, JUMPS, nodePortJumps, SHARED_CHAINS } from './fixed-rules.ts';
import { type Chains, type Rule, TABLES, type Table } from './rule.ts';
import { LARGE_CLUSTER_ENDPOINTS, renderService, type ServiceRules } from './service-rules.ts';

export type Tables = Readonly<Record<Table, Chains>>;

export interface RulesetOptions {
  readonly settings: NodeSettings;
  readonly family: Family;
  readonly nfacct: readonly string[];
  readonly randomFully: boolean;
  /** By default as isLargeCluster says of the plans; a function if it is not the same for all of them. */
  readonly largeCluster?: boolean | ((plan: ServicePlan) => boolean);
}

/** Whether so many endpoints are behind all Services of a family that comments are left out (I-31). */
export function isLargeCluster(plans: Iterable<ServicePlan>): boolean {
  let endpoints = 0;
  for (const { ports } of plans) for (const port of ports) endpoints += port.endpointCount;
  return endpoints > LARGE_CLUSTER_ENDPOINTS;
}

/** The tables with these plans; those of other families are left out. Built-in chains hold our jumps alone. */
export function tablesOf(plans: readonly ServicePlan[], options: RulesetOptions): Tables {
  const { settings, family, nfacct } = options;
  const own = plans.filter((plan) => plan.family === family);
  const largeCluster = options.largeCluster ?? isLargeCluster(own);
  const tables: Record<Table, Map<string, readonly Rule[]>> = fixedChains(options);
  if (!tables.filter.has(FIREWALL_CHAIN)) tables.filter.set(FIREWALL_CHAIN, []);
  for (const { table, from, rule } of JUMPS) tables[table].set(from, [rule, ...(tables[table].get(from) ?? [])]);
  const shared = new Map<string, Rule[]>();
  for (const table of TABLES) {
    for (const chain of SHARED_CHAINS[table]) {
      const rules: Rule[] = [];
      shared.set(`${table} ${chain}`, rules);
      tables[table].set(chain, rules);
    }
  }
  for (const plan of own) {
    const large = typeof largeCluster === 'function' ? largeCluster(plan) : largeCluster;
    const rules = renderService(plan, { settings, nfacct, largeCluster: large });
    for (const part of rules.shared) shared.get(`${part.table} ${part.chain}`)!.push(...part.rules);
    for (const [chain, content] of rules.own) tables.nat.set(chain, content);
  }
  shared.get('nat KUBE-SERVICES')!.push(...nodePortJumps({ settings, family }));
  return tables;
}

/** What one Service has in the tables. */
export function tablesOfService({ shared, own }: ServiceRules): Tables {
  const tables: Tables = { mangle: new Map(), filter: new Map(), nat: new Map() };
  for (const { table, chain, rules } of shared) tables[table].set(chain, rules);
  for (const [chain, rules] of own) tables.nat.set(chain, rules);
  return tables;
}
