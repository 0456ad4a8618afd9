// The IPVS backend: virtual servers, the addresses that lead to them, and small nftables tables that mark, filter and
// masquerade. docs/ipvs.md tells the layout; this file decides in which order a change is made, one after another.
import { Breather } from '../../native/breather.ts';
import { FAMILIES, type Family, familyOf, ipBytes } from '../../native/ip.ts';
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
import { OutcomeUnknown, TransactionRefused } from '../nft-table/committer.ts';
import type { NodeSettings, PlanChange, ServicePlan } from '../service-plan.ts';
import { WorkQueue } from '../work-queue.ts';
import type { BoundAddresses } from './bound-addresses.ts';
import { type Change, changeOf, elementsOf, merged, union } from './changes.ts';
import type { CompanionTables } from './companion-tables.ts';
import { IPVS_DEVICE } from './device.ts';
import { dumpParts, type IpvsView, viewOf } from './dump-text.ts';
import { Ledger } from './ledger.ts';
import { Refusals } from './refusals.ts';
import { type ServiceObjects, serviceObjects } from './service-objects.ts';
import type { IpvsSettings } from './settings.ts';
import type { ServerOutcome, VirtualServers, WantedServers } from './virtual-servers.ts';

/** What the backend needs of the kernel; made by `open`. */
export interface IpvsMachinery {
  readonly servers: VirtualServers;
  readonly addresses: BoundAddresses;
  readonly companion: CompanionTables;
  /** Keeps FORWARD open for answers of endpoints (V-36). @returns what was changed, in words, or null. */
  readonly openForward: (settings: NodeSettings) => Promise<string | null>;
  /** Watches for foreign changes of the companion tables; begins after the first sync. */
  readonly watch: { start(): void; stop(): void };
  close(): void;
}

export interface IpvsCallbacks {
  readonly exclusively: <T>(work: () => Promise<T>) => Promise<T>;
  /** Compares and repairs the companion tables alone; runs exclusively. */
  readonly repairCompanion: () => Promise<Drift | null>;
  readonly events: BackendEvents;
}

export interface IpvsBackendOptions {
  readonly events: BackendEvents;
  readonly settings: IpvsSettings;
  /** @throws Error when this kernel cannot be used */
  readonly open: (callbacks: IpvsCallbacks) => IpvsMachinery;
  /** Is the kernel able, down to the scheduler (V-1, V-2)? @throws Error with the reason when it is not. */
  readonly probe: () => Promise<void>;
  /** Sysctls and timeouts (V-4, V-5). */
  readonly prepare: () => void;
  /** What the kernel holds, as text. */
  readonly dumpKernel: (settings: NodeSettings | null, service?: string) => Promise<string>;
  /** V-57. */
  readonly cleanup: (successor: Successor | null) => Promise<string[]>;
  /** How often the kernel is compared with what was applied, in milliseconds; null: never. */
  readonly checkMs: number | null;
  /** How often drained real servers are removed, in milliseconds; once a minute unless given (V-20). */
  readonly tickMs?: number;
}

const TICK_MS = 60_000;
/** Timers of Node fire at once beyond this. */
const LONGEST_MS = 2 ** 31 - 1;

export class IpvsBackend implements Backend {
  readonly #options: IpvsBackendOptions;
  readonly #ledgers = new Map<Family, Ledger>();
  readonly #plans = new Map<string, PlanChange & { readonly plan: ServicePlan }>();
  readonly #timers = new Map<string, NodeJS.Timeout>();
  /** Changes that failed or were refused: what they concern is looked at with the next one too. */
  #unfinished: readonly Change[] = [];
  #machinery: IpvsMachinery | null = null;
  #settings: NodeSettings | null = null;
  readonly #queue = new WorkQueue();
  #closed = false;

  constructor(options: IpvsBackendOptions) {
    this.#options = options;
  }

  get #current(): NodeSettings {
    if (!this.#settings) throw new Error('the ipvs backend has not been started');
    return this.#settings;
  }

  get #kernel(): IpvsMachinery {
    this.#machinery ??= this.#options.open({
      exclusively: (work) => this.#queue.run(work),
      repairCompanion: () => this.#repairCompanion(),
      events: this.#options.events,
    });
    return this.#machinery;
  }

  readonly #wanted: WantedServers = (key) => {
    for (const ledger of this.#ledgers.values()) {
      const server = ledger.server(key);
      if (server) return server;
    }
    return null;
  };

  #isAsWanted(ip: string): boolean {
    const { addresses } = this.#kernel;
    return this.#wantsAddress(ip) ? addresses.isRight(ip) : !addresses.has(ip);
  }

  #wantsAddress(ip: string): boolean {
    return this.#ledgers.get(familyOf(ip))?.wantsAddress(ip) ?? false;
  }

  probe(): Promise<void> {
    return this.#options.probe();
  }

  // ---- start and repair: the kernel is read and compared

  prepare(): void {
    this.#options.prepare();
  }

  start(settings: NodeSettings, plans: readonly ServicePlan[]): Promise<SyncResult> {
    return this.#queue.run(async () => {
      const { companion, watch } = this.#kernel; // the settings of IPVS exist once it is loaded
      this.#options.prepare();
      this.#settings = settings;
      this.#ledgers.clear();
      this.#plans.clear();
      this.#unfinished = [];
      for (const family of FAMILIES) if (settings.families[family]) this.#ledgers.set(family, new Ledger(family));
      const changes = plans.map((plan) => ({ service: `${plan.namespace}/${plan.name}`, family: plan.family, plan }));
      const entered = await this.#enter(changes);
      await this.#readKernel();
      const counts = noCounts();
      await this.#kernel.openForward(settings);
      await companion.applyStructure(settings, this.#ledgers, counts);
      const refused = await this.#converge([...entered, ...this.#unwanted()], counts, true);
      watch.start();
      this.#startTimers();
      return { counts, refused };
    });
  }

  async #readKernel(): Promise<void> {
    const { servers, addresses, companion } = this.#kernel;
    const families = [...this.#ledgers.keys()];
    addresses.read();
    await servers.read(families);
    await companion.read(families);
  }

  /** What the kernel holds and no Service wants, in families that are served. */
  #unwanted(): Change[] {
    const { servers, addresses, companion } = this.#kernel;
    return [...this.#ledgers.values()].map((ledger) => {
      const { family } = ledger;
      const ofFamily = [...servers.keys()].filter((key) => servers.get(key)!.server.family === family);
      return {
        service: '',
        family,
        touched: {
          servers: new Set(ofFamily.filter((key) => ledger.server(key) === null)),
          addresses: new Set(addresses.ofFamily(family).filter((ip) => !ledger.wantsAddress(ip))),
          elements: companion.unwanted(ledger),
        },
      };
    });
  }

  /** Everything that Services want and that the kernel holds. */
  #everything(): Change[] {
    const wanted: Change[] = [];
    for (const ledger of this.#ledgers.values()) {
      for (const [service, objects] of ledger.services()) {
        wanted.push({ service, family: ledger.family, touched: ledger.set(service, objects) });
      }
    }
    return [...wanted, ...this.#unwanted()];
  }

  #startTimers(): void {
    if (this.#timers.size > 0) return;
    const { events, checkMs, tickMs = TICK_MS } = this.#options;
    const every = (ms: number, failure: string, work: () => Promise<void>): void => {
      const run = async (): Promise<void> => {
        await this.#queue
          .run(async () => (this.#closed ? undefined : work()))
          .catch((error: unknown) => events.error(failure, error));
        if (!this.#closed) wait();
      };
      const wait = (): void => {
        this.#timers.set(failure, setTimeout(() => void run(), Math.min(ms, LONGEST_MS)).unref());
      };
      wait();
    };
    every(tickMs, 'cannot remove drained real servers', async () => {
      const { servers } = this.#kernel;
      const { failures } = await servers.tick(this.#wanted);
      for (const message of failures.values()) events.error('cannot remove a drained real server', new Error(message));
      for (const { message } of await this.#converge(servers.retiring().map(changeOf), noCounts(), false)) {
        events.error('cannot remove what drains', new Error(message));
      }
    });
    if (checkMs === null) return;
    every(checkMs, 'cannot compare IPVS with what was applied', async () => {
      const drift = await this.#repair();
      if (drift) events.drift(drift);
    });
  }

  verify(): Promise<Drift | null> {
    return this.#queue.run(() => this.#repair());
  }

  /** Reads everything and repairs the difference (V-51). */
  async #repair(): Promise<Drift | null> {
    const { servers, companion } = this.#kernel;
    await this.#readKernel();
    const everything = this.#everything();
    const breather = new Breather();
    const changed: string[] = [];
    for (const key of union(everything, (touched) => touched.servers)) {
      if (!servers.differs(key, this.#wanted(key))) continue;
      servers.confirm(key);
      if (servers.differs(key, this.#wanted(key))) changed.push(key);
      if (breather.due) await breather.rest();
    }
    const wrong = union(everything, (touched) => touched.addresses).filter((ip) => !this.#isAsWanted(ip));
    const tables = companion.difference(this.#current, this.#ledgers);
    const forward = await this.#kernel.openForward(this.#current);
    const differences = [
      ...(changed.length > 0 ? [`${changed.length} virtual servers changed, such as ${changed[0]}`] : []),
      ...(wrong.length > 0 ? [`${wrong.length} addresses of ${IPVS_DEVICE} changed, such as ${wrong[0]}`] : []),
      ...[tables, forward].filter((text) => text !== null),
    ];
    if (differences.length === 0) return null;
    const counts = noCounts();
    await companion.applyStructure(this.#current, this.#ledgers, counts);
    const refused = await this.#converge(everything, counts, true);
    for (const { message } of refused) this.#options.events.error('cannot repair', new Error(message));
    // What the kernel refuses stays different; it was told with the Service.
    if (forward === null && counts.added + counts.deleted + counts.objects === 0) return null;
    return { description: differences.join('; '), culprit: null, counts };
  }

  async #repairCompanion(): Promise<Drift | null> {
    const { companion } = this.#kernel;
    await companion.read([...this.#ledgers.keys()]);
    const description = companion.difference(this.#current, this.#ledgers);
    if (description === null) return null;
    const counts = noCounts();
    const refused = new Refusals(this.#ledgers, this.#options.events);
    await companion.applyStructure(this.#current, this.#ledgers, counts);
    await this.#updateTables(this.#everything(), counts, refused);
    for (const { message } of refused.list) this.#options.events.error('cannot repair', new Error(message));
    return { description, culprit: null, counts };
  }

  // ---- changes

  sync(changes: readonly PlanChange[]): Promise<SyncResult> {
    return this.#queue.run(async () => {
      const counts = noCounts();
      const refused = await this.#converge(await this.#enter(changes), counts, false);
      return { counts, refused };
    });
  }

  configure(settings: NodeSettings): Promise<SyncResult> {
    return this.#queue.run(async () => {
      this.#settings = settings;
      const counts = noCounts();
      await this.#kernel.companion.applyStructure(settings, this.#ledgers, counts);
      // Addresses of node ports, and those that need not be bound, are among the objects of Services.
      const refused = await this.#converge(await this.#enter([...this.#plans.values()]), counts, false);
      return { counts, refused };
    });
  }

  /** Takes plans into the books. */
  async #enter(changes: readonly PlanChange[]): Promise<Change[]> {
    const breather = new Breather();
    const out: Change[] = [];
    for (const { service, family, plan } of changes) {
      const ledger = this.#ledgers.get(family);
      if (!ledger) continue;
      if (plan) this.#plans.set(`${family} ${service}`, { service, family, plan });
      else this.#plans.delete(`${family} ${service}`);
      const objects = plan && serviceObjects(plan, this.#current, this.#options.settings);
      out.push({ service, family, touched: ledger.set(service, objects) });
      if (breather.due) await breather.rest();
    }
    return out;
  }

  /**
   * Makes what was touched as Services want it. An address leads to IPVS only while its filters and its virtual server
   * exist: it is bound last, and goes first.
   */
  async #converge(changes: readonly Change[], counts: SyncCounts, firstSync: boolean): Promise<RefusedService[]> {
    const { servers, addresses } = this.#kernel;
    const refused = new Refusals(this.#ledgers, this.#options.events);
    const concerned = merged([...this.#unfinished, ...changes]);
    this.#unfinished = concerned;
    const { kept, ...retired } = await servers.retire(
      union(concerned, (t) => t.servers),
      this.#wanted,
    );
    refused.servers(retired);
    const all = [...concerned, ...this.#holdRetiring()];
    const gone = await this.#unbindUnused(
      union(all, (t) => t.addresses),
      refused,
    );
    const filtered = await this.#updateTables(all, counts, refused);
    const keys = union(filtered, (t) => t.servers);
    const updated = await servers.update(keys, this.#wanted, firstSync);
    refused.servers(updated);
    const served = this.#servedAddresses(updated);
    const wanted = union(filtered, (t) => t.addresses).filter((ip) => this.#wantsAddress(ip) && !addresses.isRight(ip));
    const fresh = wanted.filter(served);
    const unbound = await addresses.bind(fresh);
    refused.addresses(unbound);
    const removed = await servers.remove(keys, this.#wanted, kept);
    refused.servers(removed);
    const before = counts.added + counts.deleted;
    counts.added += retired.added + updated.added + fresh.length - unbound.size;
    counts.deleted += updated.deleted + removed.deleted + gone;
    if (counts.added + counts.deleted > before) counts.transactions++;
    const done = new Set(filtered);
    this.#unfinished = concerned.filter((change) => !done.has(change));
    return refused.list;
  }

  /**
   * Addresses of virtual servers that stay for their connections are wanted as long, by nobody's Service: bound, and with
   * all other ports refused.
   */
  #holdRetiring(): Change[] {
    const { servers, addresses } = this.#kernel;
    return [...this.#ledgers.values()].map((ledger) => {
      const before = ledger.service('')?.addresses;
      const retiring = servers.retiring().filter((server) => server.family === ledger.family);
      const ips = new Set(retiring.map(({ ip }) => ip).filter((ip) => addresses.has(ip) || before?.has(ip)));
      const vips = new Map([...ips].map((ip) => [ipBytes(ip)!, { key: ipBytes(ip)! }]));
      const objects = { servers: new Map(), addresses: ips, elements: new Map([['vips' as const, vips]]) };
      return { service: '', family: ledger.family, touched: ledger.set('', ips.size > 0 ? objects : null) };
    });
  }

  /** @returns how many were unbound */
  async #unbindUnused(ips: Iterable<string>, refused: Refusals): Promise<number> {
    const { addresses } = this.#kernel;
    const gone = [...ips].filter((ip) => addresses.has(ip) && !this.#wantsAddress(ip));
    const failures = await addresses.unbind(gone);
    refused.addresses(failures);
    return gone.length - failures.size;
  }

  /** An address whose virtual servers were all refused must not be bound: clients would reach listeners of the host. */
  #servedAddresses({ failures }: ServerOutcome): (ip: string) => boolean {
    if (failures.size === 0) return () => true;
    const { servers } = this.#kernel;
    const served = new Set([...servers.keys()].map((key) => servers.get(key)!.server.ip));
    return (ip) => served.has(ip);
  }

  /** @returns the changes whose elements are in the tables. */
  async #updateTables(changes: readonly Change[], counts: SyncCounts, refused: Refusals): Promise<readonly Change[]> {
    const { companion } = this.#kernel;
    const update = (some: readonly Change[]): Promise<void> =>
      companion.update(elementsOf(some), this.#ledgers, counts);
    try {
      await update(changes);
      return changes;
    } catch (error) {
      if (!(error instanceof TransactionRefused || error instanceof OutcomeUnknown)) throw error;
      // The kernel may hold something else than we believe.
      await companion.read([...this.#ledgers.keys()]);
      await companion.applyStructure(this.#current, this.#ledgers, counts);
    }
    const done: Change[] = [];
    for (const change of changes) {
      try {
        await update([change]);
        done.push(change);
      } catch (error) {
        if (!(error instanceof TransactionRefused)) throw error;
        refused.service(change.service, change.family, error.message);
      }
    }
    return done;
  }

  // ---- reading, cleaning, ending

  dump(service?: string): string {
    return [...this.dumpParts(service)].join('');
  }

  dumpParts(service?: string): Iterable<string> {
    const { servers, addresses, companion } = this.#kernel;
    const view: IpvsView = { servers: servers.listed(), addresses: [...addresses] };
    if (service === undefined) return dumpParts(view, companion.parts(this.#current));
    const own = new Map<Family, ServiceObjects>();
    for (const [family, ledger] of this.#ledgers) {
      const objects = ledger.service(service);
      if (objects) own.set(family, objects);
    }
    const elements = new Map([...own].map(([family, objects]) => [family, objects.elements]));
    return dumpParts(viewOf(view, [...own.values()]), companion.parts(this.#current, elements));
  }

  dumpKernel(service?: string): Promise<string> {
    return this.#queue.run(() => this.#options.dumpKernel(this.#settings, service));
  }

  cleanup(successor: Successor | null = null): Promise<string[]> {
    return this.#queue.run(() => this.#options.cleanup(successor));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#machinery?.watch.stop();
    await this.#queue.idle();
    this.#machinery?.close();
  }
}
