// The nftables backend: one table per family, constant in structure, with Services as elements of maps.
// docs/nftables.md tells the layout; this file decides which transactions a change takes, one after another.
import { FAMILIES, type Family } from '../../native/ip.ts';
import { NftConnection } from '../../native/nftables/connection.ts';
import {
  type Backend,
  type BackendEvents,
  type Drift,
  noCounts,
  type RefusedService,
  type SyncCounts,
  type SyncResult,
} from '../backend.ts';
import { Breather } from '../breather.ts';
import type { NodeSettings, PlanChange, ServicePlan } from '../service-plan.ts';
import { addMissing, type Elements, type Operations } from './changes.ts';
import { chunks, operationBytes } from './chunks.ts';
import { Committer, OutcomeUnknown, RulesetChanged, TransactionRefused } from './committer.ts';
import { desiredChains, desiredTable, nodePortElements, serviceElementsInTurns } from './desired.ts';
import { DriftWatch } from './drift-watch.ts';
import { frontendKeyLength } from './elements.ts';
import { dumpKernel } from './kernel-dump.ts';
import { probeKernel } from './probe.ts';
import { type KernelState, readKernel } from './read.ts';
import { refusedServices } from './refusal.ts';
import { renderParts } from './render.ts';
import { TABLE } from './schema.ts';
import { type PreparedChange, ServiceTable } from './service-table.ts';
import {
  actionOperations,
  asKernelTable,
  type DesiredTable,
  describeSteps,
  hasStructure,
  knownActionChains,
  newActionSteps,
  noSteps,
  planTable,
  type TableSteps,
  writeElements,
  writeElementsInTurns,
  writeRemovals,
  writeStructure,
} from './table-plan.ts';

export interface NftablesOptions {
  readonly events: BackendEvents;
  /** How often to look for foreign changes, in milliseconds. */
  readonly pollMs?: number;
  /** Bytes that one transaction may have; what the send buffer takes by default. */
  readonly limitBytes?: number;
}

/** Packets that follow an old word have left the maps after this long. */
const GRACE_MS = 25;
const START_ATTEMPTS = 5;
/** Services in the first part of a start that does not fit one transaction; the most urgent come first. */
const URGENT_SERVICES = 32;

const noElements: Elements = new Map();

export class NftablesBackend implements Backend {
  readonly #nft = new NftConnection();
  readonly #committer: Committer;
  readonly #events: BackendEvents;
  readonly #tables = new Map<Family, ServiceTable>();
  readonly #watch: DriftWatch;
  #settings: NodeSettings | null = null;
  #queue: Promise<unknown> = Promise.resolve();
  #sweep: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(options: NftablesOptions) {
    this.#events = options.events;
    this.#committer = new Committer(this.#nft, options.limitBytes);
    this.#watch = new DriftWatch({
      portId: this.#nft.socket.portId,
      pollMs: options.pollMs ?? 200,
      exclusively: (work) => this.#exclusively(work),
      generation: () => this.#nft.generation(),
      committer: this.#committer,
      repair: () => this.#repair(),
      events: options.events,
    });
  }

  probe(): Promise<void> {
    return probeKernel();
  }

  /** Runs `work` when everything asked for before has ended. */
  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work);
    this.#queue = result.catch(() => {});
    return result;
  }

  get #current(): NodeSettings {
    if (!this.#settings) throw new Error('the nftables backend has not been started');
    return this.#settings;
  }

  // ---- start and repair: the kernel is read and compared

  start(settings: NodeSettings, plans: readonly ServicePlan[]): Promise<SyncResult> {
    return this.#exclusively(async () => {
      this.#settings = settings;
      const counts = noCounts();
      const refused: RefusedService[] = [];
      let kernel: KernelState | null = null;
      for (let attempt = 1; kernel === null; attempt++) {
        const state = await readKernel(this.#nft, FAMILIES);
        try {
          await this.#startFrom(state, plans, counts, refused);
          kernel = state;
        } catch (error) {
          if (!(error instanceof RulesetChanged || error instanceof OutcomeUnknown) || attempt >= START_ATTEMPTS)
            throw error;
        }
      }
      if (kernel.kubeProxy.length > 0) await this.#removeKubeProxy(kernel.kubeProxy, counts);
      this.#committer.expectedGeneration = this.#nft.generation();
      this.#watch.start();
      // Whatever happened between reading and listening is found by comparing once more.
      if (kernel.generation === null) await this.#repair();
      return { counts, refused };
    });
  }

  async #startFrom(
    kernel: KernelState,
    plans: readonly ServicePlan[],
    counts: SyncCounts,
    refused: RefusedService[],
  ): Promise<void> {
    this.#tables.clear();
    const steps: TableSteps[] = [];
    const breather = new Breather();
    for (const family of FAMILIES) {
      if (!this.#current.families[family]) continue;
      const table = new ServiceTable(family);
      this.#tables.set(family, table);
      const have = kernel.tables.get(family) ?? null;
      const intact = have !== null && have.damaged === null ? have : null;
      if (intact) table.haveActions(knownActionChains(intact));
      table.adoptActions(intact?.elements ?? noElements);
      for (const plan of plans) {
        if (plan.family === family) table.adopt(plan, intact?.elements ?? noElements);
        if (breather.due) await breather.rest();
      }
      steps.push(planTable(have, desiredTable(this.#current, table, await serviceElementsInTurns(table))));
    }
    const fresh = steps.every((s) => s.replaceTable !== 'none');
    const bytes = steps.reduce((sum, s) => sum + operationBytes(s.elements), 0);
    if (fresh && bytes > this.#committer.limit) await this.#startInParts(plans, counts, refused);
    else await this.#apply(steps, counts, kernel.generation ?? undefined);
  }

  /** A first start that does not fit one transaction: the fixed objects and the most urgent Services come first. */
  async #startInParts(plans: readonly ServicePlan[], counts: SyncCounts, refused: RefusedService[]): Promise<void> {
    const steps: TableSteps[] = [];
    for (const family of this.#tables.keys()) {
      const table = new ServiceTable(family);
      this.#tables.set(family, table);
      steps.push(planTable(null, desiredTable(this.#current, table)));
    }
    const present = new Set(this.#nft.tables().flatMap((t) => (t.name === TABLE ? [t.family] : [])));
    const again = steps.map((s) => (present.has(s.family) ? { ...s, replaceTable: 'recreate' as const } : s));
    await this.#apply(again, counts, undefined);
    const changes = plans.map((plan) => ({ service: `${plan.namespace}/${plan.name}`, family: plan.family, plan }));
    for (let at = 0, size = URGENT_SERVICES; at < changes.length; at += size, size = 1000) {
      refused.push(...(await this.#syncAndIsolate(changes.slice(at, at + size), counts)));
    }
  }

  /** Sends steps: all in one transaction if there is no table yet, else chains before the elements that lead to them. */
  async #apply(steps: readonly TableSteps[], counts: SyncCounts, generation: number | undefined): Promise<void> {
    const commit = this.#committer;
    const bytes = steps.reduce((sum, s) => sum + operationBytes(s.elements), 0);
    const together = bytes <= commit.limit && steps.every((s) => s.replaceTable !== 'none' || !hasStructure(s));
    if (together) {
      await commit.commit(
        counts,
        async (batch) => {
          for (const s of steps) writeStructure(batch, s);
          for (const s of steps) await writeElementsInTurns(batch, s.family, s.elements);
        },
        generation,
      );
      return;
    }
    await commit.commit(
      counts,
      (batch) => {
        for (const s of steps) writeStructure(batch, s);
        for (const s of steps) writeElements(batch, s.family, actionOperations(s.elements, true));
      },
      generation,
    );
    for (const s of steps) await this.#commitElements(s.family, actionOperations(s.elements, false), counts);
    await commit.commit(counts, (batch) => {
      for (const s of steps) writeRemovals(batch, s);
    });
  }

  /** Commits element operations, in several consistent transactions if they do not fit one. */
  async #commitElements(family: Family, operations: Operations, counts: SyncCounts): Promise<void> {
    const { limit } = this.#committer;
    const parts =
      operationBytes(operations) <= limit ? [operations] : chunks(operations, limit, frontendKeyLength(family));
    for (const part of parts)
      await this.#committer.commit(counts, (batch) => writeElementsInTurns(batch, family, part));
  }

  verify(): Promise<Drift | null> {
    return this.#exclusively(() => this.#repair());
  }

  /** Reads the kernel, sends what is missing, deletes what should not be there. */
  async #repair(): Promise<Drift | null> {
    for (let attempt = 1; ; attempt++) {
      const kernel = await readKernel(this.#nft, [...this.#tables.keys()]);
      const steps: TableSteps[] = [];
      for (const [family, table] of this.#tables) {
        const elements = await serviceElementsInTurns(table);
        addMissing(elements, table.leftovers);
        const step = planTable(kernel.tables.get(family) ?? null, desiredTable(this.#current, table, elements));
        if (!noSteps(step)) steps.push(step);
      }
      if (steps.length === 0) return null;
      const counts = noCounts();
      try {
        await this.#apply(steps, counts, kernel.generation ?? undefined);
      } catch (error) {
        if (!(error instanceof RulesetChanged || error instanceof OutcomeUnknown) || attempt >= START_ATTEMPTS)
          throw error;
        continue;
      }
      return { description: steps.map(describeSteps).join('; '), culprit: null, counts };
    }
  }

  async #removeKubeProxy(families: readonly Family[], counts: SyncCounts): Promise<void> {
    // Packets that entered kube-proxy's chains before our first commit leave them now.
    await new Promise((resolve) => setTimeout(resolve, GRACE_MS));
    await this.#committer.commit(counts, (batch) => {
      for (const family of families) batch.deleteTable(family, 'kube-proxy');
    });
  }

  // ---- changes: nothing is read, only the difference is sent

  sync(changes: readonly PlanChange[]): Promise<SyncResult> {
    return this.#exclusively(async () => {
      const counts = noCounts();
      let refused = await this.#syncAndIsolate(changes, counts);
      if (refused.length > 0 && refused.length < changes.length) {
        // One that was tried apart may have wanted an address which another one had not given up yet.
        const again = changes.filter((c) => refused.some((r) => r.service === c.service && r.family === c.family));
        refused = await this.#syncAndIsolate(again, counts, true);
      }
      return { counts, refused };
    });
  }

  /** Applies changes; a Service that the kernel refuses is left out and named, the others are applied. */
  async #syncAndIsolate(
    changes: readonly PlanChange[],
    counts: SyncCounts,
    verified = false,
  ): Promise<RefusedService[]> {
    if (changes.length === 0) return [];
    const prepared = this.#prepare(changes);
    const before = counts.transactions;
    try {
      await this.#commitPrepared(prepared, counts);
      return [];
    } catch (error) {
      if (error instanceof OutcomeUnknown) {
        // Believe that it was applied, then let the kernel say.
        for (const [table, change] of prepared) table.applied(change);
        await this.#repair();
        this.#sweepLater();
        return [];
      }
      const guilty =
        error instanceof TransactionRefused ? prepared.flatMap(([t, c]) => refusedServices(t, c, error.refusals)) : [];
      this.#drop(prepared);
      if (!(error instanceof TransactionRefused)) throw error;
      const partly = counts.transactions > before;
      const retry = error.suggestsDrift && !verified;
      if (partly || retry) {
        const drift = await this.#repair();
        if (drift && !partly) this.#events.drift(drift);
      }
      if (retry) return this.#syncAndIsolate(changes, counts, true);
      if (guilty.length > 0) {
        const rest = changes.filter((c) => !guilty.some((g) => g.service === c.service && g.family === c.family));
        return [...guilty, ...(await this.#syncAndIsolate(rest, counts, true))];
      }
      if (changes.length > 1) return this.#halves(changes, counts);
      const { service, family } = changes[0]!;
      return [{ service, family, message: error.message }];
    }
  }

  async #halves(changes: readonly PlanChange[], counts: SyncCounts): Promise<RefusedService[]> {
    const middle = changes.length >> 1;
    const first = await this.#syncAndIsolate(changes.slice(0, middle), counts, true);
    return [...first, ...(await this.#syncAndIsolate(changes.slice(middle), counts, true))];
  }

  #prepare(changes: readonly PlanChange[]): [ServiceTable, PreparedChange][] {
    return [...this.#tables.values()].flatMap((table): [ServiceTable, PreparedChange][] => {
      const own = changes.filter((c) => c.family === table.family);
      return own.length === 0 ? [] : [[table, table.prepare(own)]];
    });
  }

  #drop(prepared: readonly [ServiceTable, PreparedChange][]): void {
    for (const [table, change] of prepared) table.dropped(change);
  }

  async #commitPrepared(prepared: readonly [ServiceTable, PreparedChange][], counts: SyncCounts): Promise<void> {
    // A packet takes its rules when it enters a hook, but looks elements up anew: a chain must exist one transaction
    // before the first word that leads to it.
    const chains = prepared.flatMap(([table, { newActions }]) =>
      newActions.length === 0
        ? []
        : [newActionSteps(table.family, this.#current, newActions, table.actionElements(newActions))],
    );
    if (chains.length > 0) {
      await this.#committer.commit(counts, (batch) => {
        for (const steps of chains) {
          writeStructure(batch, steps);
          writeElements(batch, steps.family, steps.elements);
        }
      });
      for (const [table, { newActions }] of prepared) table.haveActions(newActions);
    }
    const size = prepared.reduce((sum, [, p]) => sum + operationBytes(p.reduced.now), 0);
    if (size <= this.#committer.limit) {
      await this.#committer.commit(counts, (batch) => {
        for (const [table, { reduced }] of prepared) writeElements(batch, table.family, reduced.now);
      });
    } else {
      for (const [table, { reduced }] of prepared) await this.#commitElements(table.family, reduced.now, counts);
    }
    for (const [table, change] of prepared) table.applied(change);
    if (prepared.some(([, { reduced }]) => reduced.later.size > 0)) this.#sweepLater();
  }

  /** Deletes what only packets on their way could still need. */
  #sweepLater(): void {
    this.#sweep ??= setTimeout(() => {
      this.#sweep = null;
      this.#exclusively(() => this.#sweepNow()).catch((error: unknown) => {
        this.#events.error('cannot delete elements that are no longer used', error);
      });
    }, GRACE_MS);
  }

  async #sweepNow(): Promise<void> {
    try {
      await this.#committer.commit(noCounts(), (batch) => {
        for (const table of this.#tables.values()) {
          const deletions = new Map([...table.leftovers].map(([set, elements]) => [set, [...elements.values()]]));
          writeElements(batch, table.family, { deletions, additions: new Map() });
        }
      });
      for (const table of this.#tables.values()) table.leftovers.clear();
    } catch (error) {
      if (!(error instanceof TransactionRefused || error instanceof OutcomeUnknown)) throw error;
      for (const table of this.#tables.values()) table.leftovers.clear();
      await this.#repair();
    }
  }

  configure(settings: NodeSettings): Promise<SyncResult> {
    return this.#exclusively(async () => {
      const before = this.#current;
      const counts = noCounts();
      const steps: TableSteps[] = [];
      for (const table of this.#tables.values()) {
        const { family } = table;
        const view = (s: NodeSettings): DesiredTable => ({
          family,
          chains: desiredChains(s, table),
          elements: new Map([['nodeport-ips', nodePortElements(s, family)]]),
        });
        const step = planTable(asKernelTable(view(before)), view(settings));
        if (!noSteps(step)) steps.push(step);
      }
      this.#settings = settings;
      await this.#committer.commit(counts, (batch) => {
        for (const s of steps) {
          writeStructure(batch, s);
          writeElements(batch, s.family, s.elements);
        }
      });
      return { counts, refused: [] };
    });
  }

  // ---- reading, cleaning, ending

  dump(service?: string): string {
    return [...this.dumpParts(service)].join('');
  }

  dumpParts(service?: string): Iterable<string> {
    return renderParts(this.#current, this.#tables.values(), service);
  }

  dumpKernel(service?: string): Promise<string> {
    return this.#exclusively(() => dumpKernel(this.#nft, this.#settings, service));
  }

  cleanup(): Promise<string[]> {
    return this.#exclusively(async () => {
      const found = this.#nft.tables().filter((t) => t.name === TABLE || t.name === 'kube-proxy');
      await this.#committer.commit(noCounts(), (batch) => {
        for (const { family, name } of found) batch.deleteTable(family, name);
      });
      return found.map(({ family, name }) => `nftables table ${family === 'IPv4' ? 'ip' : 'ip6'} ${name}`);
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch.stop();
    await this.#queue;
    if (this.#sweep) {
      clearTimeout(this.#sweep);
      await this.#sweepNow().catch(() => {}); // a restart deletes them as well
    }
    this.#nft.close();
  }
}
