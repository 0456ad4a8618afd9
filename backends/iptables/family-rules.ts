// What one family's tables hold of ours, and how changes of plans become changes of rules. No I/O: the caller commits,
// then says `applied`. Rules are rendered again when they are compared; only handles in shared chains are remembered.
import type { Family } from '../../native/ip.ts';
import type { NodeSettings, PlanChange, ServicePlan } from '../service-plan.ts';
import { FIREWALL_CHAIN, fixedChains, JUMPS, nodePortJumps, SHARED_CHAINS } from './fixed-rules.ts';
import { isOwnedChain } from './names.ts';
import type { KernelRules, ListedRule } from './read.ts';
import { type Rule, ruleKey, TABLES, type Table } from './rule.ts';
import type { ChainContent, ChainPlace, Insertion, Jump, RuleChanges, RuleHandle } from './rule-changes.ts';
import { addRules, noRules, type RuleCount, writtenRules } from './rule-counts.ts';
import { type NewRule, type PlacedRule, RulePool } from './rule-handles.ts';
import { LARGE_CLUSTER_ENDPOINTS, renderService, type ServiceRules } from './service-rules.ts';

/** A Service as it was written. */
interface ServiceEntry {
  readonly plan: ServicePlan;
  readonly largeCluster: boolean;
  readonly shared: readonly PlacedRule[];
  /** Rules in its own chains. */
  readonly ownRules: number;
}

/** Changes worked out but not committed. */
export interface Prepared {
  readonly changes: RuleChanges;
  /** Which Service a chain of its own, or a rule in a shared chain, is for: to find whose fault a refusal is. */
  readonly chainOwners: ReadonlyMap<string, string>;
  readonly ruleOwners: ReadonlyMap<Rule, string>;
  readonly entries: ReadonlyMap<string, ServiceEntry | null>;
  readonly newRules: readonly NewRule[];
  /** Replaces the node-port jumps; null: they stay. */
  readonly nodePortJumps: readonly PlacedRule[] | null;
}

export interface FamilyRulesOptions {
  readonly family: Family;
  readonly nfacct: readonly string[];
  readonly randomFully: boolean;
  /** Chains of ours that others jump to: they cannot be deleted, and are emptied instead. */
  readonly held: Set<string>;
}

const SHARED_PLACES: readonly ChainPlace[] = TABLES.flatMap((table) =>
  SHARED_CHAINS[table].map((chain) => ({ table, chain })),
);
const isShared = (table: Table, chain: string): boolean => SHARED_CHAINS[table].includes(chain);

const sameRules = (a: readonly Rule[], b: readonly Rule[]): boolean =>
  a.length === b.length && a.every((rule, i) => rule === b[i] || ruleKey(rule) === ruleKey(b[i]!));

function listsEqual(listed: readonly ListedRule[], wanted: readonly Rule[]): boolean {
  return (
    listed.length === wanted.length &&
    listed.every(({ rule }, i) => rule !== null && ruleKey(rule) === ruleKey(wanted[i]!))
  );
}

/** Chains that are not listed as they should be. */
function differing(
  wanted: ReadonlyMap<string, readonly Rule[]>,
  listed: ReadonlyMap<string, readonly ListedRule[]>,
): [string, readonly Rule[]][] {
  return [...wanted].filter(([chain, rules]) => {
    const found = listed.get(chain);
    return !found || !listsEqual(found, rules);
  });
}

export class FamilyRules {
  readonly family: Family;
  readonly #options: FamilyRulesOptions;
  readonly #services = new Map<string, ServiceEntry>();
  #nodePortJumps: readonly PlacedRule[] = [];
  #endpoints = 0;
  readonly #ofServices = noRules();
  /** By the last changes that were applied. */
  written: Readonly<RuleCount> = noRules();

  constructor(options: FamilyRulesOptions) {
    this.family = options.family;
    this.#options = options;
  }

  get plans(): ServicePlan[] {
    return [...this.#services.values()].map(({ plan }) => plan);
  }

  /** I-31, with the endpoints as of the last change. */
  get largeCluster(): boolean {
    return this.#endpoints > LARGE_CLUSTER_ENDPOINTS;
  }

  plan(service: string): ServicePlan | null {
    return this.#services.get(service)?.plan ?? null;
  }

  /** The form in which the rules of a Service were written: crossing the threshold does not rewrite them (I-31). */
  isInLargeForm({ namespace, name }: ServicePlan): boolean {
    return this.#services.get(`${namespace}/${name}`)?.largeCluster ?? this.largeCluster;
  }

  render(plan: ServicePlan, settings: NodeSettings, largeCluster = this.isInLargeForm(plan)): ServiceRules {
    return renderService(plan, { settings, largeCluster, nfacct: this.#options.nfacct });
  }

  /** What a change of plans asks for; the last change of a Service counts. */
  prepare(planChanges: readonly PlanChange[], settings: NodeSettings): Prepared {
    const work = new Work(this.family, this.#options.held);
    const wanted = new Map(planChanges.map(({ service, plan }) => [service, plan]));
    const largeCluster = this.#endpointsWith(wanted) > LARGE_CLUSTER_ENDPOINTS;
    const before = this.#nodePortJumps[0]?.handle ?? null;
    for (const [service, plan] of wanted) {
      const old = this.#services.get(service) ?? null;
      const had = old ? this.render(old.plan, settings, old.largeCluster) : null;
      const rules = plan ? this.render(plan, settings, largeCluster) : null;
      const changed = [...(rules?.own ?? [])].filter(([chain, content]) => {
        const before = had?.own.get(chain);
        return !before || !sameRules(before, content);
      });
      work.own(service, changed, (chain) => had?.own.has(chain) ?? false);
      for (const [chain, content] of had?.own ?? []) {
        if (!rules?.own.has(chain)) work.deleteChain('nat', chain, content);
      }
      const pool = new RulePool(old?.shared);
      const shared = work.shared(service, rules?.shared ?? [], pool, before);
      for (const rule of pool.rest()) work.deleteRule(rule);
      work.entries.set(service, plan && { plan, largeCluster, shared, ownRules: rulesIn(rules!.own) });
    }
    return work.finish(null);
  }

  /**
   * What the kernel must be told to hold exactly these Services; null keeps those that are applied. Chains and rules
   * that are right stay, whoever wrote them.
   */
  async reconcile(
    kernel: KernelRules,
    settings: NodeSettings,
    plans: readonly ServicePlan[] | null,
    rest: () => Promise<void>,
  ): Promise<Prepared> {
    const work = new Work(this.family, this.#options.held);
    const all = plans ?? this.plans;
    const largeCluster = all.reduce((sum, plan) => sum + endpointsOf(plan), 0) > LARGE_CLUSTER_ENDPOINTS;
    const chains = (table: Table): ReadonlyMap<string, readonly ListedRule[]> => kernel.tables.get(table) ?? new Map();
    for (const table of TABLES) if (!kernel.tables.has(table)) work.tables.push(table);
    this.#fixed(work, settings, chains);
    const pool = new RulePool();
    for (const place of SHARED_PLACES) {
      const listed = chains(place.table).get(place.chain);
      if (!listed) work.content.push([{ ...place, rules: null, exists: false }]);
      for (const { handle, rule } of listed ?? []) {
        if (rule === null) work.deleteRule({ ...place, handle });
        else pool.add({ ...place, rule, handle });
      }
    }
    const jumps = this.#matchNodePortJumps(settings, chains('nat').get('KUBE-SERVICES') ?? [], pool);
    const before = jumps.every(({ handle }) => handle > 0) ? (jumps[0]?.handle ?? null) : null;
    const nat = chains('nat');
    const wantedChains = new Set<string>();
    for (const plan of all) {
      const service = `${plan.namespace}/${plan.name}`;
      let form = plans === null ? this.isInLargeForm(plan) : largeCluster;
      let rules = this.render(plan, settings, form);
      let wrong = differing(rules.own, nat);
      if (wrong.length > 0 && wrong.every(([chain]) => nat.has(chain))) {
        // With or without the comments of endpoints: both forms are right, and what is there is left as it is (I-31).
        const other = this.render(plan, settings, !form);
        if (differing(other.own, nat).length === 0) [form, rules, wrong] = [!form, other, []];
      }
      for (const chain of rules.own.keys()) wantedChains.add(chain);
      work.own(service, wrong, (chain) => nat.has(chain));
      const shared = work.shared(service, rules.shared, pool, before);
      work.entries.set(service, { plan, largeCluster: form, shared, ownRules: rulesIn(rules.own) });
      await rest();
    }
    for (const rule of pool.rest()) work.deleteRule(rule);
    for (const [chain, listed] of nat) {
      if (isOwnedChain(chain) && !wantedChains.has(chain)) work.deleteChain('nat', chain, listed);
    }
    for (const service of this.#services.keys()) if (!work.entries.has(service)) work.entries.set(service, null);
    // The node-port jumps come last: behind all that is inserted now, if they are new.
    for (const placed of jumps) if (placed.handle === 0) work.insert(null, placed, null);
    return work.finish(jumps);
  }

  /** Takes the jumps that are right out of the pool; wrong places count as wrong. */
  #matchNodePortJumps(settings: NodeSettings, listed: readonly ListedRule[], pool: RulePool): PlacedRule[] {
    const place = { table: 'nat', chain: 'KUBE-SERVICES' } as const;
    const wanted = nodePortJumps({ settings, family: this.family });
    const tail = listed.slice(listed.length - wanted.length);
    const right = listed.length >= wanted.length && listsEqual(tail, wanted);
    return wanted.map((rule, i) => {
      const placed = { ...place, rule, handle: right ? tail[i]!.handle : 0 };
      if (right) pool.takeHandle(placed);
      return placed;
    });
  }

  #fixed(
    work: Work,
    settings: NodeSettings,
    chains: (table: Table) => ReadonlyMap<string, readonly ListedRule[]>,
  ): void {
    const { family } = this;
    const fixed = fixedChains({ ...this.#options, settings, family });
    for (const table of TABLES) {
      for (const [chain, rules] of fixed[table]) {
        if (isShared(table, chain)) continue;
        const listed = chains(table).get(chain);
        if (!listed || !listsEqual(listed, rules))
          work.content.push([{ table, chain, rules, exists: listed !== undefined }]);
      }
    }
    if (!fixed.filter.has(FIREWALL_CHAIN) && !chains('filter').has(FIREWALL_CHAIN)) {
      work.content.push([{ table: 'filter', chain: FIREWALL_CHAIN, rules: null, exists: false }]);
    }
    for (const { table, from, rule } of JUMPS) {
      const key = ruleKey(rule);
      const present = chains(table)
        .get(from)
        ?.some((listed) => listed.rule !== null && ruleKey(listed.rule) === key);
      if (!present) work.jumps.push({ table, chain: from, rule });
    }
  }

  /** What new settings of the node change. */
  reconfigure(before: NodeSettings, after: NodeSettings): Prepared {
    const work = new Work(this.family, this.#options.held);
    const { family } = this;
    const view = (settings: NodeSettings) => fixedChains({ ...this.#options, settings, family });
    const [old, now] = [view(before), view(after)];
    for (const table of TABLES) {
      for (const [chain, rules] of now[table]) {
        if (isShared(table, chain)) continue;
        if (!sameRules(old[table].get(chain) ?? [], rules)) work.content.push([{ table, chain, rules, exists: true }]);
      }
    }
    const wanted = nodePortJumps({ settings: after, family });
    if (
      sameRules(
        this.#nodePortJumps.map(({ rule }) => rule),
        wanted,
      )
    )
      return work.finish(null);
    const jumps = wanted.map((rule) => ({ table: 'nat', chain: 'KUBE-SERVICES', rule, handle: 0 }) as PlacedRule);
    for (const placed of jumps) work.insert(null, placed, null);
    for (const rule of this.#nodePortJumps) work.deleteRule(rule);
    return work.finish(jumps);
  }

  /** The kernel has accepted prepared changes; `handles` tells those of new rules. @returns whether all are known. */
  applied(prepared: Prepared, handles: ReadonlyMap<Insertion, number>): boolean {
    let known = true;
    for (const { insertion, placed } of prepared.newRules) {
      placed.handle = handles.get(insertion) ?? 0;
      known &&= placed.handle > 0;
    }
    for (const [service, entry] of prepared.entries) {
      const old = this.#services.get(service);
      this.#endpoints += (entry ? endpointsOf(entry.plan) : 0) - (old ? endpointsOf(old.plan) : 0);
      if (old) this.#count(old, -1);
      if (entry) this.#count(entry, 1);
      if (entry) this.#services.set(service, entry);
      else this.#services.delete(service);
    }
    if (prepared.nodePortJumps) this.#nodePortJumps = prepared.nodePortJumps;
    this.written = writtenRules(prepared.changes);
    for (const chain of prepared.chainOwners.keys()) this.#options.held.delete(chain);
    return known;
  }

  /** Rules in chains of ours. */
  owned(settings: NodeSettings): RuleCount {
    const count = { ...this.#ofServices };
    const fixed = fixedChains({ ...this.#options, settings, family: this.family });
    for (const table of TABLES) for (const rules of fixed[table].values()) addRules(count, table, rules.length);
    for (const { table } of this.#nodePortJumps) addRules(count, table, 1);
    return count;
  }

  #count({ ownRules, shared }: ServiceEntry, sign: 1 | -1): void {
    addRules(this.#ofServices, 'nat', sign * ownRules);
    for (const { table } of shared) addRules(this.#ofServices, table, sign);
  }

  #endpointsWith(changes: ReadonlyMap<string, ServicePlan | null>): number {
    let endpoints = this.#endpoints;
    for (const [service, plan] of changes) {
      endpoints +=
        (plan ? endpointsOf(plan) : 0) - (this.#services.has(service) ? endpointsOf(this.plan(service)!) : 0);
    }
    return endpoints;
  }
}

function rulesIn(chains: ReadonlyMap<string, readonly Rule[]>): number {
  let sum = 0;
  for (const rules of chains.values()) sum += rules.length;
  return sum;
}

const endpointsOf = (plan: ServicePlan): number => plan.ports.reduce((sum, port) => sum + port.endpointCount, 0);

/** Collects the changes of one family. */
class Work {
  readonly entries = new Map<string, ServiceEntry | null>();
  readonly tables: Table[] = [];
  readonly content: ChainContent[][] = [];
  readonly jumps: Jump[] = [];
  readonly #family: Family;
  readonly #insert: Insertion[] = [];
  readonly #deleteRules: RuleHandle[] = [];
  readonly #deleteChains: ChainPlace[] = [];
  readonly #newRules: NewRule[] = [];
  readonly #chainOwners = new Map<string, string>();
  readonly #ruleOwners = new Map<Rule, string>();

  readonly #held: ReadonlySet<string>;

  constructor(family: Family, held: ReadonlySet<string>) {
    this.#family = family;
    this.#held = held;
  }

  /** Writes own chains of a Service. */
  own(service: string, chains: readonly [string, readonly Rule[]][], exists: (chain: string) => boolean): void {
    if (chains.length === 0) return;
    for (const [chain] of chains) this.#chainOwners.set(chain, service);
    this.content.push(
      chains.map(([chain, rules]) => ({
        table: 'nat',
        chain,
        rules,
        exists: exists(chain) || this.#held.has(chain),
      })),
    );
  }

  /** A Service's rules in shared chains: those in the pool stay, others are inserted. */
  shared(
    service: string,
    wanted: ServiceRules['shared'],
    pool: RulePool,
    beforeNodePorts: number | null,
  ): PlacedRule[] {
    return wanted.flatMap(({ table, chain, rules }) =>
      rules.map((rule) => {
        const held = pool.take({ table, chain, rule });
        if (held) return held;
        const placed = { table, chain, rule, handle: 0 };
        this.insert(service, placed, table === 'nat' && chain === 'KUBE-SERVICES' ? beforeNodePorts : null);
        return placed;
      }),
    );
  }

  insert(service: string | null, placed: PlacedRule, before: number | null): void {
    const { table, chain, rule } = placed;
    const insertion = { table, chain, rule, before };
    this.#insert.push(insertion);
    this.#newRules.push({ insertion, placed });
    if (service !== null) this.#ruleOwners.set(rule, service);
  }

  deleteRule({ table, chain, handle, rule }: RuleHandle): void {
    this.#deleteRules.push({ table, chain, handle, ...(rule && { rule }) });
  }

  /** With `rules` that it has: none means that a chain held by others is empty already. */
  deleteChain(table: Table, chain: string, rules: readonly unknown[]): void {
    if (!this.#held.has(chain)) this.#deleteChains.push({ table, chain });
    else if (rules.length > 0) this.content.push([{ table, chain, rules: [], exists: true }]);
  }

  finish(nodePortJumps: readonly PlacedRule[] | null): Prepared {
    return {
      changes: {
        family: this.#family,
        tables: this.tables,
        content: this.content,
        insert: this.#insert,
        jumps: this.jumps,
        deleteRules: this.#deleteRules,
        deleteChains: this.#deleteChains,
      },
      chainOwners: this.#chainOwners,
      ruleOwners: this.#ruleOwners,
      entries: this.entries,
      newRules: this.#newRules,
      nodePortJumps,
    };
  }
}
