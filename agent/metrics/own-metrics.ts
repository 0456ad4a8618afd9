// The agent's own metrics, `kubeplumb_*`: what it does in the kernel, and how it fares. Most are read when scraped.
import { Histogram, type Registry } from 'prom-client';
import type { SyncCounts } from '../../backends/backend.ts';
import type { ProxyMode } from '../config/types.ts';
import type { WatchStatus } from '../source/source.ts';
import type { Problem } from '../state/problem.ts';
import type { Reached, SyncObserver } from '../sync/observer.ts';
import type { SyncReport } from '../sync/sync-loop.ts';
import { SYNC_BUCKETS } from './buckets.ts';
import { computedCounter, computedGauge, type Sample } from './computed.ts';

/** What is read when scraped. */
export interface OwnFigures {
  /** null before the loop begins. */
  readonly report: SyncReport | null;
  readonly repairs: number;
  /** By name. */
  readonly conditions: ReadonlyMap<string, string>;
  readonly watches: readonly WatchStatus[];
  readonly problems: readonly Problem[];
  /** Health check node ports that cannot be opened. */
  readonly closedHealthPorts: number;
}

export interface OwnMetricsOptions {
  readonly registry: Registry;
  readonly mode: ProxyMode;
  readonly version: string;
  readonly figures: () => OwnFigures;
}

/** Kinds of work in the kernel, by the counts of a sync. */
const CHANGES: readonly (readonly [operation: string, count: keyof SyncCounts])[] = [
  ['added', 'added'],
  ['removed', 'deleted'],
  ['structure', 'objects'],
];

export class OwnMetrics implements Pick<SyncObserver, 'applied' | 'reached'> {
  readonly #mode: ProxyMode;
  readonly #applying: Histogram;
  readonly #latency: Histogram;

  constructor(options: OwnMetricsOptions) {
    const { registry, mode } = options;
    this.#mode = mode;
    const common = { buckets: [...SYNC_BUCKETS], registers: [registry] };
    this.#applying = new Histogram({
      ...common,
      name: 'kubeplumb_apply_duration_seconds',
      help: 'Time the backend took, in seconds: start, configure (settings of the node) or sync (changes of Services).',
      labelNames: ['backend', 'operation'],
    });
    this.#latency = new Histogram({
      ...common,
      name: 'kubeplumb_event_to_kernel_seconds',
      help: 'From the oldest event a sync serves, as received, until the kernel has it, in seconds.',
    });
    this.#work(options);
    this.#condition(options);
    this.#watches(options);
  }

  applied(operation: string, seconds: number): void {
    this.#applying.observe({ backend: this.#mode, operation }, seconds);
  }

  reached({ oldestEventSeconds }: Reached): void {
    if (oldestEventSeconds !== null) this.#latency.observe(oldestEventSeconds);
  }

  #work({ registry, figures }: OwnMetricsOptions): void {
    const counter = (name: string, help: string, read: (report: SyncReport) => number): void =>
      computedCounter({
        registry,
        name: `kubeplumb_${name}`,
        help,
        read: () => {
          const { report } = figures();
          return report === null ? 0 : read(report);
        },
      });
    computedCounter({
      registry,
      name: 'kubeplumb_kernel_changes_total',
      help: 'Elements and rules added and removed in the kernel; structure: tables, chains, sets and rules around them.',
      labels: ['operation'],
      read: () => {
        const counts = figures().report?.counts;
        return CHANGES.map(([operation, count]) => [{ operation }, counts?.[count] ?? 0] as const);
      },
    });
    counter('kernel_transactions_total', 'Transactions sent to the kernel.', ({ counts }) => counts.transactions);
    counter('kernel_sent_bytes_total', 'Bytes of transactions sent to the kernel.', ({ counts }) => counts.bytes);
    counter('syncs_total', 'Syncs that reached the kernel.', ({ syncs }) => syncs);
    counter('sync_failures_total', 'Syncs that failed, in part or whole.', ({ failures }) => failures);
    computedCounter({
      registry,
      name: 'kubeplumb_drift_repairs_total',
      help: 'Times that rules were found changed by others, and put right.',
      read: () => figures().repairs,
    });
  }

  #condition({ registry, figures, mode, version }: OwnMetricsOptions): void {
    computedGauge({
      registry,
      name: 'kubeplumb_info',
      help: 'Version and mode of the agent; constant 1.',
      labels: ['version', 'mode'],
      read: () => [[{ version, mode }, 1]],
    });
    computedGauge({
      registry,
      name: 'kubeplumb_services_skipped',
      help: 'Services not served as they are wanted: refused by the kernel, with fields that cannot be used, or without their health check node port.',
      labels: ['reason'],
      read: () => {
        const { report, problems, closedHealthPorts } = figures();
        return [
          [{ reason: 'refused' }, new Set(report?.refused.map(({ service }) => service)).size],
          [{ reason: 'unusable' }, servicesIn(problems)],
          [{ reason: 'health_check_port' }, closedHealthPorts],
        ];
      },
    });
    computedGauge({
      registry,
      name: 'kubeplumb_condition',
      help: 'States an operator must know of, while they last; always 1.',
      labels: ['name'],
      read: () => [...figures().conditions.keys()].map((name): Sample => [{ name }, 1]),
    });
  }

  #watches({ registry, figures }: OwnMetricsOptions): void {
    const perKind = (read: (watch: WatchStatus) => number | null) => (): readonly Sample[] =>
      figures().watches.flatMap((watch): Sample[] => {
        const value = read(watch);
        return value === null ? [] : [[{ kind: watch.kind }, value]];
      });
    const labels = ['kind'];
    computedCounter({
      registry,
      name: 'kubeplumb_watch_restarts_total',
      help: 'Watches begun anew.',
      labels,
      read: perKind(({ watches }) => Math.max(0, watches - 1)),
    });
    computedCounter({
      registry,
      name: 'kubeplumb_watch_relists_total',
      help: 'Complete lists after the first.',
      labels,
      read: perKind(({ lists }) => Math.max(0, lists - 1)),
    });
    computedGauge({
      registry,
      name: 'kubeplumb_watch_silence_seconds',
      help: 'Time since the last list, event or bookmark.',
      labels,
      read: perKind(({ silentMs }) => (silentMs === null ? null : silentMs / 1000)),
    });
    computedGauge({
      registry,
      name: 'kubeplumb_watched_objects',
      help: 'Objects held.',
      labels,
      read: perKind(({ objects }) => objects),
    });
  }
}

/** Services with problems of their own or of their slices' fields are told by the object's label. */
function servicesIn(problems: readonly Problem[]): number {
  return new Set(problems.flatMap(({ object }) => (object.startsWith('Service ') ? [object] : []))).size;
}
