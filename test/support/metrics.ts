// Metrics of an agent that does not run: fed by hand, and what they export.
import type { ProxyMode } from '../../agent/config/types.ts';
import { AgentMetrics, type AgentMetricsOptions } from '../../agent/metrics/agent-metrics.ts';
import { COUNTERS } from '../../backends/iptables/nfacct.ts';

export function metricsOf(mode: ProxyMode, options: Partial<AgentMetricsOptions> = {}): AgentMetrics {
  return new AgentMetrics({
    mode,
    version: '1.2.3',
    gates: {},
    eventCounts: () => ({ serviceEvents: 4, sliceEvents: 7, servicesPending: 2, slicesPending: 3 }),
    unapplied: () => 1,
    ruleFigures: () => [
      { family: 'IPv4', table: 'filter', owned: 11, written: 3 },
      { family: 'IPv4', table: 'nat', owned: 26, written: 5 },
    ],
    readCounters: mode === 'iptables' ? () => new Map(COUNTERS.map((name, i) => [name, BigInt(i + 5)])) : null,
    nowMs: () => 1_000_000,
    figures: () => ({
      report: null,
      repairs: 0,
      conditions: new Map(),
      watches: [],
      problems: [],
      closedHealthPorts: 0,
    }),
    ...options,
  });
}

/** Does everything once that makes series appear. */
export function feed(metrics: AgentMetrics): void {
  const families = ['IPv4', 'IPv6'] as const;
  metrics.requested(families);
  metrics.planned([], true);
  metrics.applied('start', 0.02);
  metrics.reached({ triggerTimesMs: { IPv4: [999_000], IPv6: [] }, oldestEventSeconds: 0.01 });
  metrics.ended({ families, full: true, reached: true, failed: [], seconds: 0.05 });
  metrics.ended({ families: ['IPv4'], full: false, reached: false, failed: ['IPv4'], seconds: 0.003 });
  metrics.kubeProxy.onConntrackRound({ family: 'IPv4', seconds: 0.002, deleted: 2 });
  metrics.kubeProxy.onHealthAnswer('/healthz', 503);
  metrics.kubeProxy.onHealthAnswer('/livez', 200);
  metrics.kubeProxy.cleanupFailed();
  const request = { method: 'GET', host: '192.0.2.1:6443', status: 200, watch: false, seconds: 0.01, requestBytes: 10 };
  metrics.client.onRequest(request);
  metrics.client.onRequest({ ...request, status: null });
  metrics.client.onRequest({ ...request, watch: true });
  metrics.client.onBody({ ...request, bytes: 1000 });
}

export interface Exported {
  readonly type: string;
  readonly labels: readonly string[];
  readonly buckets?: readonly number[];
  readonly series: ReadonlyMap<string, number>;
}

/** Reads Prometheus' text format: by name of the metric, its series as `labels` → value. */
export function parseExposition(text: string): Map<string, Exported> {
  const types = new Map<string, string>();
  const out = new Map<
    string,
    { type: string; labels: Set<string>; buckets: Set<number>; series: Map<string, number> }
  >();
  for (const line of text.split('\n')) {
    const [, name, type] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? [];
    if (name !== undefined && type !== undefined) types.set(name, type);
    const match = /^([a-zA-Z_0-9]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (match === null) continue;
    const full = match[1]!;
    const base = types.has(full) ? full : full.replace(/_(bucket|sum|count)$/, '');
    let entry = out.get(base);
    if (!entry) {
      entry = { type: types.get(base) ?? 'none', labels: new Set(), buckets: new Set(), series: new Map() };
      out.set(base, entry);
    }
    const labels = [...(match[2] ?? '').matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)].map((m) => [m[1]!, m[2]!] as const);
    for (const [label, value] of labels) {
      if (label !== 'le') entry.labels.add(label);
      else if (value !== '+Inf') entry.buckets.add(Number(value));
    }
    const key = labels.map(([label, value]) => `${label}=${value}`).sort();
    entry.series.set(`${full}{${key.join(',')}}`, Number(match[3]));
  }
  return new Map(
    [...out].map(([name, { type, labels, buckets, series }]) => [
      name,
      { type, series, labels: [...labels].sort(), ...(buckets.size > 0 && { buckets: [...buckets] }) },
    ]),
  );
}
