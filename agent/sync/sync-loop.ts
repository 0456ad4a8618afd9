// The loop: objects arrive in the state, changes are gathered, planned and given to the backend; what fails is kept and
// tried again. Nothing reaches the kernel before every source has told all it has.
import { isDeepStrictEqual } from 'node:util';
import { type Backend, noCounts, type RefusedService, type SyncCounts } from '../../backends/backend.ts';
import type { NodeSettings, PlanChange } from '../../backends/service-plan.ts';
import { FAMILIES, type Family } from '../../native/ip.ts';
import type { Log } from '../log.ts';
import { healthCheckPort } from '../plan/health-check-ports.ts';
import type { ProxyHealth } from '../serve/proxy-health.ts';
import type { ServiceHealthServers } from '../serve/service-health.ts';
import type { Changes, State } from '../state/state.ts';
import { BoundedRunner, doubling } from './bounded-runner.ts';
import { type Clock, systemClock } from './clock.ts';
import type { ConntrackCleaner } from './conntrack-cleaner.ts';
import { NO_OBSERVER, type SyncObserver } from './observer.ts';
import type { Planner } from './planner.ts';
import { reclaimMemory } from './reclaim-memory.ts';

export interface SyncLoopOptions {
  readonly state: State;
  readonly backend: Backend;
  readonly health: ProxyHealth;
  readonly serviceHealth: ServiceHealthServers;
  readonly conntrack: ConntrackCleaner;
  readonly planner: Planner;
  readonly families: readonly Family[];
  /** Settings of the node as of now; called when a sync may have to change them. */
  readonly settings: () => NodeSettings;
  /** Least time between the end of a sync and the next. */
  readonly minSyncMs: () => number;
  readonly syncPeriodMs: number;
  readonly log: Log;
  readonly clock?: Clock;
  /** Collects garbage after a big sync. */
  readonly reclaimMemory?: () => void;
  /** Told once the rules are complete for the first time. */
  readonly onFirstSync?: () => void;
  readonly observer?: SyncObserver;
}

/** What the loop has done, for status and metrics. Times are milliseconds since the epoch. */
export interface SyncReport {
  started: boolean;
  syncs: number;
  failures: number;
  lastSyncMs: number | null;
  lastDurationMs: number | null;
  firstDurationMs: number | null;
  /** Of the last sync, null when it succeeded. */
  lastError: string | null;
  /** The last sync that failed, however long ago. */
  lastFailure: { readonly atMs: number; readonly message: string } | null;
  counts: SyncCounts;
  refused: readonly RefusedService[];
}

const FIRST_RETRY_MS = 1000;
const LONGEST_QUIET_MS = 3_600_000;
/** A sync that leaves much garbage, and how long after it that is collected. */
const BIG_SYNC_ELEMENTS = 10_000;
const RECLAIM_AFTER_MS = 1000;

/** Some Services could not be applied; all others were. */
class ServicesRefused extends Error {}

export class SyncLoop {
  readonly #options: SyncLoopOptions;
  readonly #clock: Clock;
  readonly #runner: BoundedRunner;
  readonly #observer: SyncObserver;
  /** Services whose last change has not reached the kernel. */
  readonly #unapplied = new Map<string, Set<Family>>();
  #refused = new Map<string, RefusedService>();
  /** Settings of the node that the kernel has acknowledged. */
  #applied: NodeSettings | null = null;
  #settingsChanged = false;
  /** When the oldest event that has not reached the kernel came (monotonic). */
  #oldestEventMs: number | null = null;
  /** Of changes that have not reached the kernel (E-48). */
  #triggerTimesMs: Record<Family, number[]> = { IPv4: [], IPv6: [] };
  #cancelReclaim: (() => void) | null = null;
  readonly report: SyncReport = {
    started: false,
    syncs: 0,
    failures: 0,
    lastSyncMs: null,
    lastDurationMs: null,
    firstDurationMs: null,
    lastError: null,
    lastFailure: null,
    counts: noCounts(),
    refused: [],
  };

  constructor(options: SyncLoopOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#observer = options.observer ?? NO_OBSERVER;
    this.#runner = new BoundedRunner({
      run: () => this.#run(),
      minMs: options.minSyncMs,
      retryMs: options.syncPeriodMs,
      maxMs: LONGEST_QUIET_MS,
      backoffMs: doubling(FIRST_RETRY_MS),
      onError: (error, failures) => this.#failed(error, failures),
      clock: this.#clock,
    });
  }

  /** Begins with a first sync of everything. Call it once all sources are complete. */
  start(): void {
    for (const family of this.#options.families) this.#options.health.loopStarted(family);
    this.request();
    this.#oldestEventMs = null;
    this.#runner.start();
  }

  /** Something changed. */
  request(): void {
    for (const family of this.#options.families) this.#options.health.syncRequested(family);
    this.#oldestEventMs ??= this.#clock.monotonicMs();
    this.#observer.requested(this.#options.families);
    this.#runner.request();
  }

  /** Services whose last change was planned and has not reached the kernel. */
  get unapplied(): number {
    return this.#unapplied.size;
  }

  /** Addresses of the node changed. */
  settingsChanged(): void {
    this.#settingsChanged = true;
    this.request();
  }

  stop(): Promise<void> {
    this.#cancelReclaim?.();
    return this.#runner.stop();
  }

  async #run(): Promise<void> {
    const began = this.#clock.monotonicMs();
    const all = this.#options.families;
    const round = { families: all, full: !this.report.started, reached: false, failed: [] as readonly Family[] };
    try {
      await this.#sync(round);
    } catch (error) {
      round.failed =
        error instanceof ServicesRefused ? [...new Set(this.report.refused.map((r) => r.family))] : round.families;
      throw error;
    } finally {
      this.#observer.ended({ ...round, seconds: (this.#clock.monotonicMs() - began) / 1000 });
    }
  }

  async #sync(round: { families: readonly Family[]; full: boolean; reached: boolean }): Promise<void> {
    const { report } = this;
    const began = this.#clock.monotonicMs();
    const oldestEventMs = this.#oldestEventMs;
    const changes = this.#options.state.takeChanges();
    const first = !report.started;
    for (const family of FAMILIES) this.#triggerTimesMs[family].push(...changes.triggerTimesMs[family]);
    for (const [service, families] of changes.services) this.#keep(service, families);
    if (changes.zoneChanged && !first) {
      round.full = true;
      for (const service of this.#options.state.serviceKeys()) this.#keep(service, this.#options.families);
    }
    if (changes.serviceCidrsChanged) this.#settingsChanged = true;
    const work = new Map([...this.#unapplied].map(([service, families]) => [service, [...families]]));
    if (!first && !this.#settingsChanged && work.size > 0) {
      round.families = this.#options.families.filter((family) => [...work.values()].some((f) => f.includes(family)));
    }
    this.#oldestEventMs = null;
    const refused = await this.#reachKernel(first, work, changes).catch((error: unknown) => {
      this.#oldestEventMs = oldestEventMs ?? this.#oldestEventMs;
      throw error;
    });
    this.#unapplied.clear();
    this.#noteRefused(refused);
    this.#reportHealth(first ? this.#everything() : work);
    await this.#options.serviceHealth.apply();
    report.syncs++;
    report.lastSyncMs = this.#clock.wallMs();
    report.lastDurationMs = this.#clock.monotonicMs() - began;
    report.firstDurationMs ??= report.lastDurationMs;
    for (const family of this.#options.families) this.#options.health.syncSucceeded(family);
    round.reached = true;
    this.#tellReached(first ? null : oldestEventMs);
    if (first) this.#options.onFirstSync?.();
    this.#cleanConntrack(changes, first);
    if (this.#refused.size > 0)
      throw new ServicesRefused([...this.#refused.values()].map((r) => `${r.service}: ${r.message}`).join('; '));
    report.lastError = null;
  }

  #reachKernel(
    first: boolean,
    work: ReadonlyMap<string, readonly Family[]>,
    changes: Changes,
  ): Promise<readonly RefusedService[]> {
    return first ? this.#startBackend() : this.#applyChanges(work, changes);
  }

  #tellReached(oldestEventMs: number | null): void {
    const triggerTimesMs = this.#triggerTimesMs;
    this.#triggerTimesMs = { IPv4: [], IPv6: [] };
    const oldestEventSeconds = oldestEventMs === null ? null : (this.#clock.monotonicMs() - oldestEventMs) / 1000;
    this.#observer.reached({ triggerTimesMs, oldestEventSeconds });
  }

  /** The work, with how long the backend took. */
  async #timed<T>(operation: 'start' | 'configure' | 'sync', work: () => Promise<T>): Promise<T> {
    const began = this.#clock.monotonicMs();
    const result = await work();
    this.#observer.applied(operation, (this.#clock.monotonicMs() - began) / 1000);
    return result;
  }

  async #startBackend(): Promise<readonly RefusedService[]> {
    const { backend, planner, settings, log } = this.#options;
    log.debug('first sync begins');
    const plans = await planner.all();
    this.#settingsChanged = false;
    const began = this.#clock.monotonicMs();
    this.#observer.planned(
      plans.map((plan) => ({ service: `${plan.namespace}/${plan.name}`, family: plan.family, plan })),
      true,
    );
    const applied = settings();
    const { counts, refused } = await this.#timed('start', () => backend.start(applied, plans));
    this.#applied = applied;
    this.#count(counts);
    this.report.started = true;
    const ms = Math.round(this.#clock.monotonicMs() - began);
    log.info('rules are in place', { services: plans.length, ...counts, ms });
    return refused;
  }

  async #applyChanges(
    work: ReadonlyMap<string, readonly Family[]>,
    { resourceVersions }: Changes,
  ): Promise<readonly RefusedService[]> {
    const { backend, planner, log } = this.#options;
    const stillRefused = await this.#configure();
    const changes: PlanChange[] = await planner.changes(work);
    this.#observer.planned(changes, false);
    const { counts, refused } = await this.#timed('sync', () => backend.sync(changes));
    this.#count(counts);
    // The kernel has acknowledged all that was known up to these versions.
    log.debug('synced', {
      services: work.size,
      ...counts,
      resourceVersions,
      monotonicMs: this.#clock.monotonicMs(),
    });
    return [...stillRefused.filter(({ service, family }) => !work.get(service)?.includes(family)), ...refused];
  }

  /** Applies the settings of the node if they are other ones. @returns Services that the kernel refuses with them */
  async #configure(): Promise<readonly RefusedService[]> {
    const { backend, settings, log } = this.#options;
    if (!this.#settingsChanged) return [];
    const next = settings();
    this.#settingsChanged = false; // they may change again meanwhile
    if (isDeepStrictEqual(next, this.#applied)) return [];
    const { counts, refused } = await this.#timed('configure', () => backend.configure(next)).catch(
      (error: unknown) => {
        this.#settingsChanged = true;
        throw error;
      },
    );
    this.#applied = next;
    for (const { service, family } of refused) this.#keep(service, [family]);
    this.#count(counts);
    if (counts.transactions > 0) log.info('settings of the node changed', { ...counts });
    return refused;
  }

  #reclaimLater(): void {
    this.#cancelReclaim?.();
    this.#cancelReclaim = this.#clock.after(RECLAIM_AFTER_MS, this.#options.reclaimMemory ?? reclaimMemory);
  }

  #everything(): Map<string, readonly Family[]> {
    return new Map([...this.#options.state.serviceKeys()].map((key) => [key, this.#options.families]));
  }

  #keep(service: string, families: readonly Family[]): void {
    let kept = this.#unapplied.get(service);
    if (!kept) this.#unapplied.set(service, (kept = new Set()));
    for (const family of families) kept.add(family);
  }

  #count(counts: SyncCounts): void {
    if (counts.added > BIG_SYNC_ELEMENTS || !this.report.started) this.#reclaimLater();
    const total = this.report.counts;
    for (const key of Object.keys(total) as (keyof SyncCounts)[]) total[key] += counts[key];
  }

  /** Refused Services stay due; each is logged once for each reason. */
  #noteRefused(refused: readonly RefusedService[]): void {
    const next = new Map(refused.map((r) => [`${r.family} ${r.service}`, r]));
    for (const [key, { service, family, message }] of next) {
      this.#keep(service, [family]);
      if (this.#refused.get(key)?.message === message) continue;
      this.#options.log.error('the kernel refused a Service; all others are in place', {
        service,
        family,
        reason: message,
      });
    }
    this.#refused = next;
    this.report.refused = [...next.values()];
  }

  #reportHealth(work: ReadonlyMap<string, readonly Family[]>): void {
    const { state, serviceHealth } = this.#options;
    for (const [key, families] of work) {
      for (const family of families) {
        const port = healthCheckPort({ service: state.service(key), family, slices: state.slices(key, family) });
        serviceHealth.set(key, family, port);
      }
    }
  }

  /** After a start all Services take part: endpoints may have changed while the agent was down (S-80). */
  #cleanConntrack(changes: Changes, first: boolean): void {
    for (const family of this.#options.families) {
      const services = first ? this.#options.state.serviceKeys() : changes.conntrack[family];
      if (services) this.#options.conntrack.clean(family, services);
    }
  }

  #failed(error: unknown, failures: number): void {
    const { log } = this.#options;
    this.report.failures++;
    this.report.lastError = error instanceof Error ? error.message : String(error);
    this.report.lastFailure = { atMs: this.#clock.wallMs(), message: this.report.lastError };
    if (!(error instanceof ServicesRefused)) log.error('sync failed; it will be tried again', { failures, err: error });
  }
}
