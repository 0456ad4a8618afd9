// The iptables backend: kube-proxy's chains and rules, with only what changes sent to the kernel. docs/iptables.md tells
// the layout; this file decides what is committed when, one after another.

import { Breather } from '../../native/breather.ts';
import { FAMILIES, type Family } from '../../native/ip.ts';
import {
  type Backend,
  type BackendEvents,
  type Drift,
  noCounts,
  type RefusedService,
  type Successor,
  type SyncCounts,
  type SyncResult,
} from '../backend.ts';
import type { NodeSettings, PlanChange, ServicePlan } from '../service-plan.ts';
import { WorkQueue } from '../work-queue.ts';
import { kernelText, saveTextOf } from './dump-text.ts';
import { FamilyRules, type Prepared } from './family-rules.ts';
import type { RuleRefusal } from './netlink-writer.ts';
import type { KernelRules } from './read.ts';
import type { RuleChanges } from './rule-changes.ts';
import { countChanges, describeChanges, figuresOf, isEmpty } from './rule-counts.ts';
import type { RuleWriter } from './rule-writer.ts';
import { tablesOf, tablesOfService } from './ruleset.ts';

/** What the backend needs of its surroundings; made by `open`. */
export interface IptablesMachinery {
  readonly writer: RuleWriter;
  /** Counters that exist (I-56). */
  readonly nfacct: readonly string[];
  /** Watches for foreign changes and calls `repair`; begins after the first sync. */
  readonly watch: { start(): void; stop(): void };
  /** Removes what a proxy left elsewhere, once the rules are complete; null: there is nothing. */
  readonly removeLeftovers: (() => Promise<void>) | null;
}

export interface IptablesOptions {
  readonly events: BackendEvents;
  /** Chooses variant and writer, and makes what belongs to them. `repair` runs exclusively. */
  readonly open: (callbacks: IptablesCallbacks) => Promise<IptablesMachinery>;
  /** Prepares the kernel for these settings, such as route_localnet (I-60). */
  readonly prepare: (settings: NodeSettings) => void;
  /** Removes everything of ours and of kube-proxy's, in both variants (I-57). */
  readonly cleanup: (successor: Successor | null) => Promise<string[]>;
}

export interface IptablesCallbacks {
  readonly exclusively: <T>(work: () => Promise<T>) => Promise<T>;
  readonly repair: () => Promise<Drift | null>;
  /** Families in use. */
  readonly families: () => readonly Family[];
  readonly events: BackendEvents;
}

/** A transaction was refused as a whole or for reasons of its rules. */
class RulesRefused extends Error {
  readonly refusals: readonly RuleRefusal[];
  /** Transactions before the refused one were committed. */
  readonly partial: boolean;
  constructor(refusals: readonly RuleRefusal[], partial: boolean) {
    super(`the kernel refused iptables rules: ${refusals.map((r) => r.message).join('; ')}`);
    this.name = 'RulesRefused';
    this.refusals = refusals;
    this.partial = partial;
  }

  get suggestsDrift(): boolean {
    return this.refusals.some((r) => ['ENOENT', 'EEXIST', 'EBUSY'].includes(r.code));
  }
}

/** Somebody changed the ruleset between reading and writing, or replies were lost: read again. */
class ReadAgain extends Error {}

const ATTEMPTS = 5;
/**
 * The kernel checks all rules of a table for each change: at most a fifth of its time, or with legacy rules half of it,
 * as long as changes do not wait long.
 */
const REST_FACTOR = { nft: 4, legacy: 1 };
const LONGEST_REST_MS = 1000;

export class IptablesBackend implements Backend {
  readonly #options: IptablesOptions;
  readonly #families = new Map<Family, FamilyRules>();
  /** Families whose rules this node cannot hold, with the reason (I-50). */
  readonly unusable = new Map<Family, string>();
  readonly #held: Readonly<Record<Family, Set<string>>> = { IPv4: new Set(), IPv6: new Set() };
  #machinery: IptablesMachinery | null = null;
  #settings: NodeSettings | null = null;
  readonly #queue = new WorkQueue();
  #closed = false;
  restMs = 0;

  constructor(options: IptablesOptions) {
    this.#options = options;
  }

  get #current(): NodeSettings {
    if (!this.#settings) throw new Error('the iptables backend has not been started');
    return this.#settings;
  }

  async #open(): Promise<IptablesMachinery> {
    this.#machinery ??= await this.#options.open({
      exclusively: (work) => this.#queue.run(work),
      repair: () => this.#repair(),
      families: () => [...this.#families.keys()],
      events: this.#options.events,
    });
    return this.#machinery;
  }

  prepare(settings: NodeSettings): void {
    this.#options.prepare(settings);
  }

  async probe(): Promise<void> {
    const { writer } = await this.#open();
    for (const family of FAMILIES) {
      const reason = await writer.probe(family);
      if (reason === null) this.unusable.delete(family);
      else this.unusable.set(family, reason);
    }
    const reasons = [...this.unusable].map(([family, reason]) => `${family}: ${reason}`).join('; ');
    if (this.unusable.size === FAMILIES.length) throw new Error(`this node cannot hold iptables rules: ${reasons}`);
    if (reasons !== '')
      this.#options.events.note(`this node cannot hold iptables rules of each family (I-50): ${reasons}`);
  }

  // ---- start and repair: the kernel is read and compared

  start(settings: NodeSettings, plans: readonly ServicePlan[]): Promise<SyncResult> {
    return this.#queue.run(async () => {
      const { watch, removeLeftovers } = await this.#open();
      this.#options.prepare(settings);
      this.#settings = settings;
      const counts = noCounts();
      const refused: RefusedService[] = [];
      let wanted = plans;
      for (let attempt = 1; ; attempt++) {
        try {
          await this.#startWith(wanted, counts);
          break;
        } catch (error) {
          if (error instanceof ReadAgain && attempt < ATTEMPTS) continue;
          const guilty = error instanceof RulesRefused ? this.#atFault(error) : [];
          if (guilty.length === 0) throw error;
          refused.push(...guilty);
          wanted = wanted.filter(
            (p) => !guilty.some((g) => g.family === p.family && g.service === `${p.namespace}/${p.name}`),
          );
        }
      }
      watch.start();
      await removeLeftovers?.();
      return { counts, refused };
    });
  }

  #lastPrepared: readonly (readonly [FamilyRules, Prepared])[] = [];

  async #startWith(plans: readonly ServicePlan[], counts: SyncCounts): Promise<void> {
    const { writer, nfacct } = await this.#open();
    this.#families.clear();
    for (const family of FAMILIES) {
      if (this.#current.families[family] && !this.unusable.has(family))
        this.#families.set(family, new FamilyRules({ family, nfacct, randomFully: true, held: this.#held[family] }));
    }
    const breather = new Breather();
    const prepared: [FamilyRules, Prepared][] = [];
    let generation: number | undefined;
    for (const [family, rules] of this.#families) {
      const kernel = await writer.read(family);
      generation = together(generation, kernel);
      const own = plans.filter((plan) => plan.family === family);
      const rest = async (): Promise<void> => (breather.due ? breather.rest() : undefined);
      prepared.push([rules, await rules.reconcile(kernel, this.#current, own, rest)]);
    }
    await this.#commit(prepared, counts, generation);
  }

  async #repair(): Promise<Drift | null> {
    const { writer } = await this.#open();
    for (let attempt = 1; ; attempt++) {
      const breather = new Breather();
      const prepared: [FamilyRules, Prepared][] = [];
      let generation: number | undefined;
      for (const [family, rules] of this.#families) {
        const kernel = await writer.read(family);
        generation = together(generation, kernel);
        const rest = async (): Promise<void> => (breather.due ? breather.rest() : undefined);
        prepared.push([rules, await rules.reconcile(kernel, this.#current, null, rest)]);
      }
      const counts = noCounts();
      try {
        await this.#commit(prepared, counts, generation);
      } catch (error) {
        if (error instanceof ReadAgain && attempt < ATTEMPTS) continue;
        throw error;
      }
      const wrong = prepared.map(([, p]) => p.changes).filter((changes) => !isEmpty(changes));
      if (wrong.length === 0) return null;
      return { description: wrong.map(describeChanges).join('; '), culprit: null, counts };
    }
  }

  verify(): Promise<Drift | null> {
    return this.#queue.run(() => this.#repair());
  }

  /** @throws RulesRefused, ReadAgain */
  async #commit(
    prepared: readonly (readonly [FamilyRules, Prepared])[],
    counts: SyncCounts,
    generation?: number,
  ): Promise<void> {
    const { writer } = await this.#open();
    this.#lastPrepared = prepared;
    const changes = prepared.map(([, p]) => p.changes).filter((c) => !isEmpty(c));
    if (changes.length > 0) {
      const result = await writer.commit(changes, generation);
      counts.transactions += result.counts.transactions;
      counts.bytes += result.counts.bytes;
      if (result.outcome === 'refused') {
        if (this.#hold(result.refusals, changes)) throw new ReadAgain('others jump to chains of ours');
        throw new RulesRefused(result.refusals, result.counts.transactions > 0);
      }
      if (result.outcome !== 'committed') throw new ReadAgain('the ruleset changed while rules were being written');
      for (const change of changes) countChanges(change, counts);
      let known = true;
      for (const [rules, p] of prepared) known = rules.applied(p, result.handles) && known;
      this.#lastPrepared = [];
      if (!known) await this.#repair();
      return;
    }
    for (const [rules, p] of prepared) rules.applied(p, new Map());
    this.#lastPrepared = [];
  }

  /** Remembers chains that cannot be deleted because others jump to them. @returns whether that is all that was refused */
  #hold(refusals: readonly RuleRefusal[], changes: readonly RuleChanges[]): boolean {
    let all = true;
    for (const { code, family, chain } of refusals) {
      const { deleteChains = [] } = changes.find((c) => c.family === family) ?? {};
      if (code === 'EBUSY' && deleteChains.some((place) => place.chain === chain)) this.#held[family!].add(chain!);
      else all = false;
    }
    return all;
  }

  // ---- changes: nothing is read, only the difference is sent

  sync(changes: readonly PlanChange[]): Promise<SyncResult> {
    return this.#queue.run(async () => {
      const began = performance.now();
      const counts = noCounts();
      let refused = await this.#syncAndIsolate(changes, counts, false);
      if (refused.length > 0 && refused.length < changes.length) {
        // One that was tried apart may have wanted a chain or an address which another had not given up yet.
        const again = changes.filter((c) => refused.some((r) => r.service === c.service && r.family === c.family));
        refused = await this.#syncAndIsolate(again, counts, true);
      }
      const { variant } = (await this.#open()).writer;
      this.restMs = Math.min(REST_FACTOR[variant] * (performance.now() - began), LONGEST_REST_MS);
      return { counts, refused };
    });
  }

  async #syncAndIsolate(
    changes: readonly PlanChange[],
    counts: SyncCounts,
    verified: boolean,
  ): Promise<RefusedService[]> {
    if (changes.length === 0) return [];
    try {
      const prepared = [...this.#families].flatMap(([family, rules]): [FamilyRules, Prepared][] => {
        const own = changes.filter((c) => c.family === family);
        return own.length === 0 ? [] : [[rules, rules.prepare(own, this.#current)]];
      });
      await this.#commit(prepared, counts);
      return [];
    } catch (error) {
      if (error instanceof ReadAgain) {
        await this.#repair();
        return this.#syncAndIsolate(changes, counts, true);
      }
      if (!(error instanceof RulesRefused)) throw error;
      const guilty = this.#atFault(error);
      const suspicious = error.suggestsDrift && !verified;
      if (suspicious || error.partial) {
        const drift = await this.#repair();
        if (drift && !error.partial) this.#options.events.drift(drift);
      }
      if (suspicious) {
        return this.#syncAndIsolate(changes, counts, true);
      }
      if (guilty.length > 0) {
        const rest = changes.filter((c) => !guilty.some((g) => g.service === c.service && g.family === c.family));
        return [...guilty, ...(await this.#syncAndIsolate(rest, counts, true))];
      }
      if (changes.length > 1) {
        const middle = changes.length >> 1;
        const first = await this.#syncAndIsolate(changes.slice(0, middle), counts, true);
        return [...first, ...(await this.#syncAndIsolate(changes.slice(middle), counts, true))];
      }
      const { service, family } = changes[0]!;
      return [{ service, family, message: error.message }];
    }
  }

  /** Services whose chains or rules the kernel names in its refusal. */
  #atFault(error: RulesRefused): RefusedService[] {
    const out = new Map<string, RefusedService>();
    for (const refusal of error.refusals) {
      for (const [{ family }, p] of this.#lastPrepared) {
        if (refusal.family !== family) continue;
        const service =
          (refusal.rule && p.ruleOwners.get(refusal.rule)) ?? (refusal.chain && p.chainOwners.get(refusal.chain));
        if (service) out.set(`${family} ${service}`, { service, family, message: refusal.message });
      }
    }
    return [...out.values()];
  }

  configure(settings: NodeSettings): Promise<SyncResult> {
    return this.#queue.run(async () => {
      const before = this.#current;
      const counts = noCounts();
      this.#options.prepare(settings);
      try {
        const prepared = [...this.#families.values()].map(
          (rules) => [rules, rules.reconfigure(before, settings)] as const,
        );
        await this.#commit(prepared, counts);
        this.#settings = settings;
      } catch (error) {
        if (!(error instanceof RulesRefused || error instanceof ReadAgain)) throw error;
        this.#settings = settings;
        await this.#repair();
      }
      return { counts, refused: [] };
    });
  }

  ruleFigures = () => figuresOf(this.#families.values(), this.#settings);
  dump(service?: string): string {
    return [...this.dumpParts(service)].join('');
  }

  *dumpParts(service?: string): Generator<string> {
    const settings = this.#current;
    for (const [family, rules] of this.#families) {
      if (service === undefined) {
        const options = {
          settings,
          family,
          nfacct: this.#machinery?.nfacct ?? [],
          randomFully: true,
          largeCluster: (plan: ServicePlan) => rules.isInLargeForm(plan),
        };
        yield* saveTextOf(tablesOf(rules.plans, options), family);
      } else {
        const plan = rules.plan(service);
        if (plan) yield* saveTextOf(tablesOfService(rules.render(plan, settings)), family);
      }
    }
  }

  dumpKernel(service?: string): Promise<string> {
    return this.#queue.run(async () => {
      const { writer } = await this.#open();
      const parts: string[] = [];
      for (const family of FAMILIES) parts.push(kernelText(await writer.read(family), family, service));
      return parts.join('');
    });
  }

  cleanup(successor: Successor | null = null): Promise<string[]> {
    return this.#queue.run(() => this.#options.cleanup(successor));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#machinery?.watch.stop();
    await this.#queue.idle();
    this.#machinery?.writer.close();
  }
}

/** The generation all readings belong to; undefined when there is none to insist on. */
function together(before: number | undefined, { generation, settled }: KernelRules): number | undefined {
  return settled && generation > 0 && (before === undefined || before === generation) ? generation : undefined;
}
