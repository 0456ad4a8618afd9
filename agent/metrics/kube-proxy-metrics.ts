// kube-proxy's own metrics, by its names (P-80, P-81), fed by the loop, the servers and what is read when scraped.
// Those of other modes are not registered (P-83).
import { Counter, Histogram, type Registry } from 'prom-client';
import type { RuleFigures } from '../../backends/backend.ts';
import { INVALID_COUNTER } from '../../backends/iptables/fixed-rules.ts';
import { LOCALHOST_COUNTER } from '../../backends/iptables/service-rules.ts';
import type { PlanChange } from '../../backends/service-plan.ts';
import type { Family } from '../../native/ip.ts';
import type { ProxyMode } from '../config/types.ts';
import type { EventCounts } from '../state/state.ts';
import type { ConntrackRound } from '../sync/conntrack-cleaner.ts';
import type { Reached, SyncObserver, SyncRound } from '../sync/observer.ts';
import { PROGRAMMING_BUCKETS, SYNC_BUCKETS } from './buckets.ts';
import { computedCounter, computedGauge } from './computed.ts';
import { NoLocalEndpoints, TRAFFIC_POLICIES } from './no-local-endpoints.ts';

export interface KubeProxyMetricsOptions {
  readonly registry: Registry;
  readonly mode: ProxyMode;
  readonly eventCounts: () => EventCounts;
  /** Services that were planned and have not reached the kernel. */
  readonly unapplied: () => number;
  readonly ruleFigures: () => readonly RuleFigures[];
  /** Packets that the kernel's accounting has counted, by counter; null where it has none (I-56). */
  readonly readCounters: (() => ReadonlyMap<string, bigint>) | null;
  readonly nowMs: () => number;
}

/** The kernel's counters (I-14, I-23) and the metrics they are told by. */
const ACCOUNTED: readonly (readonly [counter: string, metric: string, help: string])[] = [
  [
    INVALID_COUNTER,
    'kubeproxy_iptables_ct_state_invalid_dropped_packets_total',
    'Packets dropped because connection tracking takes them for invalid.',
  ],
  [
    LOCALHOST_COUNTER,
    'kubeproxy_iptables_localhost_nodeports_accepted_packets_total',
    'Packets accepted on node ports of loopback addresses.',
  ],
];

export class KubeProxyMetrics implements Omit<SyncObserver, 'applied'> {
  readonly #options: KubeProxyMetricsOptions;
  readonly #noLocal: NoLocalEndpoints;
  readonly #lastQueued = new Map<Family, number>();
  readonly #lastSynced = new Map<Family, number>();
  readonly #durations: readonly ((family: Family, round: SyncRound) => void)[];
  readonly #failures: Counter;
  readonly #partialFailures: Counter | null;
  readonly #cleanupFailures: Counter | null;
  readonly #programming: Histogram;
  readonly #conntrackDuration: Histogram;
  readonly #conntrackDeleted: Counter;
  readonly #healthz: Counter;
  readonly #livez: Counter;
  #families: readonly Family[] = [];

  constructor(options: KubeProxyMetricsOptions) {
    this.#options = options;
    const { mode } = options;
    this.#noLocal = new NoLocalEndpoints(mode === 'ipvs' ? 'services' : 'ports');
    const any = this.#histogram('sync_proxy_rules_duration_seconds', 'Duration of syncs in seconds.');
    const durations = [(family: Family, { seconds }: SyncRound) => any.observe({ ip_family: family }, seconds)];
    if (mode !== 'ipvs') {
      const full = this.#histogram('sync_full_proxy_rules_duration_seconds', 'Duration of syncs of all Services.');
      const partial = this.#histogram(
        'sync_partial_proxy_rules_duration_seconds',
        'Duration of syncs of what changed, in seconds.',
      );
      durations.push((family, round) => (round.full ? full : partial).observe({ ip_family: family }, round.seconds));
    }
    this.#durations = durations;
    this.#programming = this.#histogram(
      'network_programming_duration_seconds',
      'From the change of an endpoint, by its annotation, to the rules, in seconds.',
      PROGRAMMING_BUCKETS,
    );
    this.#conntrackDuration = this.#histogram(
      'conntrack_reconciler_sync_duration_seconds',
      'Duration of rounds of conntrack cleaning in seconds.',
    );
    this.#conntrackDeleted = this.#counter('conntrack_reconciler_deleted_entries_total', 'Conntrack entries deleted.');
    this.#healthz = this.#counter('proxy_healthz_total', 'Answers of /healthz by status code.', ['code']);
    this.#livez = this.#counter('proxy_livez_total', 'Answers of /livez by status code.', ['code']);
    this.#failures = this.#counter(
      mode === 'nftables'
        ? 'sync_proxy_rules_nftables_sync_failures_total'
        : 'sync_proxy_rules_iptables_restore_failures_total',
      'Syncs that the kernel refused in part or whole.',
    );
    this.#partialFailures =
      mode === 'iptables'
        ? this.#counter(
            'sync_proxy_rules_iptables_partial_restore_failures_total',
            'Syncs of what changed that the kernel refused.',
          )
        : null;
    this.#cleanupFailures =
      mode === 'nftables'
        ? this.#counter(
            'sync_proxy_rules_nftables_cleanup_failures_total',
            'Deletions of what is no longer used that the kernel refused.',
          )
        : null;
    this.#computed();
    if (mode === 'iptables') this.#rules();
  }

  // ---- what the loop tells

  requested(families: readonly Family[]): void {
    if (this.#families.length === 0) this.#begin(families);
    const now = this.#options.nowMs() / 1000;
    for (const family of families) this.#lastQueued.set(family, now);
  }

  planned(changes: readonly PlanChange[], all: boolean): void {
    this.#noLocal.planned(changes, all);
  }

  reached({ triggerTimesMs }: Reached): void {
    const now = this.#options.nowMs();
    for (const family of this.#families) {
      this.#lastSynced.set(family, now / 1000);
      for (const time of triggerTimesMs[family]) {
        this.#programming.observe({ ip_family: family }, Math.max(0, now - time) / 1000);
      }
    }
  }

  ended(round: SyncRound): void {
    for (const family of round.families) for (const observe of this.#durations) observe(family, round);
    for (const family of round.failed) {
      this.#failures.inc({ ip_family: family });
      if (!round.full) this.#partialFailures?.inc({ ip_family: family });
    }
  }

  // ---- what others tell

  readonly onConntrackRound = ({ family, seconds, deleted }: ConntrackRound): void => {
    this.#conntrackDuration.observe({ ip_family: family }, seconds);
    this.#conntrackDeleted.inc({ ip_family: family }, deleted);
  };

  readonly onHealthAnswer = (path: '/healthz' | '/livez', status: 200 | 503): void => {
    (path === '/healthz' ? this.#healthz : this.#livez).inc({ code: String(status) });
  };

  cleanupFailed(): void {
    for (const family of this.#families) this.#cleanupFailures?.inc({ ip_family: family });
  }

  /** Counters begin with 0, so that the first failure is an increase. */
  #begin(families: readonly Family[]): void {
    this.#families = families;
    const counters = [this.#failures, this.#partialFailures, this.#cleanupFailures, this.#conntrackDeleted];
    for (const ip_family of families) for (const counter of counters) counter?.inc({ ip_family }, 0);
  }

  // ---- what is read when scraped

  #computed(): void {
    const { registry, eventCounts, unapplied } = this.#options;
    const gauge = (name: string, help: string, read: () => number): void =>
      computedGauge({ registry, name: `kubeproxy_${name}`, help: `[ALPHA] ${help}`, read });
    const counter = (name: string, help: string, read: () => number): void =>
      computedCounter({ registry, name: `kubeproxy_${name}`, help: `[ALPHA] ${help}`, read });
    gauge(
      'sync_proxy_rules_endpoint_changes_pending',
      'Changes of slices that no sync has taken.',
      () => eventCounts().slicesPending,
    );
    counter('sync_proxy_rules_endpoint_changes_total', 'Events of slices.', () => eventCounts().sliceEvents);
    gauge(
      'sync_proxy_rules_service_changes_pending',
      'Services whose changes have not reached the kernel.',
      () => eventCounts().servicesPending + unapplied(),
    );
    counter(
      'sync_proxy_rules_service_changes_total',
      'Events of Services, once for each family of the node.',
      () => eventCounts().serviceEvents * this.#families.length,
    );
    this.#times('sync_proxy_rules_last_timestamp_seconds', 'When the last successful sync ended.', this.#lastSynced);
    this.#times('sync_proxy_rules_last_queued_timestamp_seconds', 'When a sync was last asked for.', this.#lastQueued);
    computedGauge({
      registry,
      name: 'kubeproxy_sync_proxy_rules_no_local_endpoints_total',
      help: '[ALPHA] What has endpoints, but none on this node that its Local traffic policy could use.',
      labels: ['traffic_policy', 'ip_family'],
      read: () =>
        this.#families.flatMap((family) =>
          TRAFFIC_POLICIES.map(
            (policy) => [{ traffic_policy: policy, ip_family: family }, this.#noLocal.total(family, policy)] as const,
          ),
        ),
    });
  }

  #times(name: string, help: string, times: ReadonlyMap<Family, number>): void {
    computedGauge({
      registry: this.#options.registry,
      name: `kubeproxy_${name}`,
      help: `[ALPHA] ${help}`,
      labels: ['ip_family'],
      read: () => [...times].map(([family, seconds]) => [{ ip_family: family }, seconds] as const),
    });
  }

  #rules(): void {
    const { registry, ruleFigures, readCounters } = this.#options;
    const figures = (name: string, help: string, of: (figures: RuleFigures) => number): void =>
      computedGauge({
        registry,
        name: `kubeproxy_sync_proxy_rules_iptables_${name}`,
        help: `[ALPHA] ${help}`,
        labels: ['table', 'ip_family'],
        read: () => ruleFigures().map((f) => [{ table: f.table, ip_family: f.family }, of(f)] as const),
      });
    figures('total', 'Rules of ours in the kernel.', ({ owned }) => owned);
    figures('last', 'Rules written by the last sync.', ({ written }) => written);
    if (readCounters === null) return;
    for (const [counter, name, help] of ACCOUNTED) {
      const read = (): number | null => {
        const packets = readCounters().get(counter);
        return packets === undefined ? null : Number(packets);
      };
      computedCounter({ registry, name, help: `[ALPHA] ${help}`, read });
    }
  }

  // ---- made once

  #histogram(name: string, help: string, buckets: readonly number[] = SYNC_BUCKETS): Histogram {
    return new Histogram({
      name: `kubeproxy_${name}`,
      help: `[ALPHA] ${help}`,
      labelNames: ['ip_family'],
      buckets: [...buckets],
      registers: [this.#options.registry],
    });
  }

  #counter(name: string, help: string, labelNames: readonly string[] = ['ip_family']): Counter {
    return new Counter({
      name: `kubeproxy_${name}`,
      help: `[ALPHA] ${help}`,
      labelNames,
      registers: [this.#options.registry],
    });
  }
}
