// The nftables backend: one table per family, constant in structure, with Services as elements of maps.
// docs/nftables.md tells the layout; this file decides which transactions a change takes, one after another.
import { FAMILIES, type Family } from '../../native/ip.ts';
import { NftConnection } from '../../native/nftables/connection.ts';
import { NFT_MSG } from '../../native/nftables/constants.ts';
import {
  type Backend,
  type BackendEvents,
  type Drift,
  noCounts,
  type RefusedService,
  type SyncCounts,
  type SyncResult,
} from '../backend.ts';
import { DriftWatch } from '../drift-watch.ts';
import { Committer, OutcomeUnknown, RulesetChanged, TransactionRefused } from '../nft-table/committer.ts';
import {
  asKernelTable,
  type DesiredTable,
  noSteps,
  planTable,
  type TableSteps,
  writeElements,
  writeStructure,
} from '../nft-table/table-plan.ts';
import type { NodeSettings, PlanChange, ServicePlan } from '../service-plan.ts';
import { WorkQueue } from '../work-queue.ts';
import type { BackendCore } from './core.ts';
import { desiredChains, nodePortElements } from './desired.ts';
import { dumpKernel } from './kernel-dump.ts';
import { probeKernel } from './probe.ts';
import { type KernelState, readKernel } from './read.ts';
import { Reconciler } from './reconcile.ts';
import { refusedServices } from './refusal.ts';
import { renderParts } from './render.ts';
import { LAYOUT, type SetName, TABLE } from './schema.ts';
import { ServiceSync } from './service-sync.ts';
import type { ServiceTable } from './service-table.ts';

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
/** Services in the first part of a start that does not fit one transaction, and in the others. */
const URGENT_SERVICES = 32;
const PART_SERVICES = 1000;

export class NftablesBackend implements Backend {
  readonly #nft = new NftConnection();
  readonly #committer: Committer;
  readonly #events: BackendEvents;
  readonly #tables = new Map<Family, ServiceTable>();
  readonly #watch: DriftWatch;
  readonly #reconciler: Reconciler;
  readonly #services: ServiceSync;
  #settings: NodeSettings | null = null;
  readonly #queue = new WorkQueue();
  #sweep: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(options: NftablesOptions) {
    this.#events = options.events;
    this.#committer = new Committer(this.#nft, TABLE, options.limitBytes);
    const backend = this;
    const core: BackendCore = {
      nft: this.#nft,
      committer: this.#committer,
      events: options.events,
      tables: this.#tables,
      get settings() {
        return backend.#current;
      },
      sweepLater: () => this.#sweepLater(),
    };
    this.#reconciler = new Reconciler(core);
    this.#services = new ServiceSync(core, this.#reconciler);
    this.#watch = new DriftWatch({
      portId: this.#nft.socket.portId,
      pollMs: options.pollMs ?? 100,
      exclusively: (work) => this.#queue.run(work),
      concern: ({ type, table }) =>
        table === TABLE ? 'touched' : table === 'kube-proxy' && type !== NFT_MSG.delTable ? 'rival' : null,
      generation: () => this.#nft.generation(),
      expected: this.#committer,
      rival: 'kube-proxy is writing its own nftables table on this node: two service proxies must not run side by side',
      repair: () => this.#reconciler.repair(),
      events: options.events,
    });
  }

  probe(): Promise<void> {
    return probeKernel();
  }

  get #current(): NodeSettings {
    if (!this.#settings) throw new Error('the nftables backend has not been started');
    return this.#settings;
  }

  start(settings: NodeSettings, plans: readonly ServicePlan[]): Promise<SyncResult> {
    return this.#queue.run(async () => {
      this.#settings = settings;
      const counts = noCounts();
      const refused: RefusedService[] = [];
      const kernel = await this.#startFromKernel(plans, counts, refused);
      if (kernel.kubeProxy.length > 0) await this.#removeKubeProxy(kernel.kubeProxy, counts);
      this.#committer.expectedGeneration = this.#nft.generation();
      this.#watch.start();
      // Whatever happened between reading and listening is found by comparing once more.
      if (kernel.generation === null) await this.#reconciler.repair();
      return { counts, refused };
    });
  }

  async #startFromKernel(
    plans: readonly ServicePlan[],
    counts: SyncCounts,
    refused: RefusedService[],
  ): Promise<KernelState> {
    let wanted = plans;
    for (let attempt = 1; ; attempt++) {
      const kernel = await readKernel(this.#nft, FAMILIES);
      try {
        if (!(await this.#reconciler.startFrom(kernel, wanted, counts)))
          await this.#syncInParts(wanted, counts, refused);
        return kernel;
      } catch (error) {
        if (error instanceof TransactionRefused) {
          const guilty = this.#atFault(error);
          refused.push(...guilty);
          wanted = wanted.filter(
            (p) => !guilty.some((g) => g.family === p.family && g.service === `${p.namespace}/${p.name}`),
          );
          if (guilty.length > 0) continue;
          if (attempt > 1) throw error;
          // The kernel names nobody: begin anew and find out who it is by trying parts.
          await this.#reconciler.startEmpty(counts);
          await this.#syncInParts(wanted, counts, refused);
          return kernel;
        }
        const passing = error instanceof RulesetChanged || error instanceof OutcomeUnknown;
        if (!passing || attempt >= START_ATTEMPTS) throw error;
      }
    }
  }

  /** Services whose elements the kernel names in its refusal. */
  #atFault(error: TransactionRefused): RefusedService[] {
    return [...this.#tables.values()].flatMap((table) => refusedServices(table, table.services, error.refusals));
  }

  /** The most urgent Services come first. */
  async #syncInParts(plans: readonly ServicePlan[], counts: SyncCounts, refused: RefusedService[]): Promise<void> {
    const changes = plans.map((plan) => ({ service: `${plan.namespace}/${plan.name}`, family: plan.family, plan }));
    for (let at = 0, size = URGENT_SERVICES; at < changes.length; at += size, size = PART_SERVICES) {
      refused.push(...(await this.#services.syncAndIsolate(changes.slice(at, at + size), counts)));
    }
  }

  async #removeKubeProxy(families: readonly Family[], counts: SyncCounts): Promise<void> {
    // Packets that entered kube-proxy's chains before our first commit leave them now.
    await new Promise((resolve) => setTimeout(resolve, GRACE_MS));
    await this.#committer.commit(counts, (batch) => {
      for (const family of families) batch.deleteTable(family, 'kube-proxy');
    });
  }

  sync(changes: readonly PlanChange[]): Promise<SyncResult> {
    return this.#queue.run(() => this.#services.sync(changes));
  }

  verify(): Promise<Drift | null> {
    return this.#queue.run(() => this.#reconciler.repair());
  }

  /** Deletes what only packets on their way could still need. */
  #sweepLater(): void {
    this.#sweep ??= setTimeout(() => {
      this.#sweep = null;
      this.#queue
        .run(() => this.#sweepNow())
        .catch((error: unknown) => {
          this.#events.error('cannot delete elements that are no longer used', error, 'cleanup');
        });
    }, GRACE_MS);
  }

  async #sweepNow(): Promise<void> {
    try {
      await this.#committer.commit(noCounts(), (batch) => {
        for (const table of this.#tables.values()) {
          const deletions = new Map([...table.leftovers].map(([set, elements]) => [set, [...elements.values()]]));
          writeElements(batch, { layout: LAYOUT, family: table.family, elements: { deletions, additions: new Map() } });
        }
      });
      for (const table of this.#tables.values()) table.leftovers.clear();
    } catch (error) {
      if (!(error instanceof TransactionRefused || error instanceof OutcomeUnknown)) throw error;
      for (const table of this.#tables.values()) table.leftovers.clear();
      await this.#reconciler.repair();
    }
  }

  configure(settings: NodeSettings): Promise<SyncResult> {
    return this.#queue.run(async () => {
      const before = this.#current;
      const counts = noCounts();
      const steps: TableSteps<SetName>[] = [];
      for (const table of this.#tables.values()) {
        const { family } = table;
        const view = (s: NodeSettings): DesiredTable<SetName> => ({
          layout: LAYOUT,
          family,
          chains: desiredChains(s, table),
          elements: new Map([['nodeport-ips', nodePortElements(s, family)]]),
        });
        const step = planTable(asKernelTable(view(before)), view(settings));
        if (!noSteps(step)) steps.push(step);
      }
      try {
        await this.#committer.commit(counts, (batch) => {
          for (const s of steps) {
            writeStructure(batch, s);
            writeElements(batch, s);
          }
        });
        this.#settings = settings;
      } catch (error) {
        if (!(error instanceof TransactionRefused || error instanceof OutcomeUnknown)) throw error;
        // The kernel holds something else than what was compared with.
        this.#settings = settings;
        await this.#reconciler.repair();
      }
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
    return this.#queue.run(() => dumpKernel(this.#nft, this.#settings, service));
  }

  cleanup(): Promise<string[]> {
    return this.#queue.run(async () => {
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
    await this.#queue.idle();
    if (this.#sweep) {
      clearTimeout(this.#sweep);
      await this.#sweepNow().catch(() => {}); // a restart deletes them as well
    }
    this.#nft.close();
  }
}
