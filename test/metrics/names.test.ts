// Names, types, labels and buckets, against what kube-proxy 1.36 exported of a small cluster in the same mode
// (fixtures/metrics), and against the list of P-81 where it exports a metric only once something has failed.
import { readFileSync } from 'node:fs';
import t from 'tap';
import { PROXY_MODES } from '../../agent/config/types.ts';
import { feed, metricsOf, parseExposition } from '../support/metrics.ts';

interface Recorded {
  readonly type: string;
  readonly labels: readonly string[];
  readonly buckets?: readonly number[];
}

const recorded: Record<string, Record<string, Recorded>> = JSON.parse(
  readFileSync(new URL('../fixtures/metrics/kube-proxy.json', import.meta.url), 'utf8'),
);

/** What there is nothing to tell of: no client-side rate limiter, no cache of transports, no certificates of plug-ins. */
const LEFT_OUT = [
  'rest_client_exec_plugin_certificate_rotation_age',
  'rest_client_exec_plugin_ttl_seconds',
  'rest_client_rate_limiter_duration_seconds',
  'rest_client_transport_cache_entries',
  'rest_client_transport_cert_rotation_gc_calls_total',
  'rest_client_transport_create_calls_total',
];

/** Exported from the start here, so that the first failure is an increase. */
const FAILURES: Record<string, readonly string[]> = {
  nftables: [
    'kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total',
    'kubeproxy_sync_proxy_rules_nftables_sync_failures_total',
  ],
  iptables: [
    'kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total',
    'kubeproxy_sync_proxy_rules_iptables_restore_failures_total',
  ],
};

for (const mode of ['nftables', 'iptables'] as const) {
  t.test(`${mode}: as kube-proxy's`, async (t) => {
    const metrics = metricsOf(mode);
    feed(metrics);
    const exported = parseExposition((await metrics.exposition()).text);
    const wanted = recorded[mode]!;
    for (const [name, { type, labels, buckets }] of Object.entries(wanted)) {
      if (LEFT_OUT.includes(name)) {
        t.notOk(exported.has(name), `${name} is left out`);
        continue;
      }
      const found = exported.get(name);
      const { series: _, ...shape } = found ?? { series: null };
      t.same(shape, { type, labels, ...(buckets && { buckets }) }, name);
    }
    const more = [...exported.keys()].filter((name) => !(name in wanted) && !/^(kubeplumb|nodejs)_/.test(name));
    t.same(more.sort(), FAILURES[mode], 'and no others');
  });
}

const common = [
  'conntrack_reconciler_deleted_entries_total counter',
  'conntrack_reconciler_sync_duration_seconds histogram',
  'network_programming_duration_seconds histogram',
  'proxy_healthz_total counter',
  'proxy_livez_total counter',
  'sync_proxy_rules_duration_seconds histogram',
  'sync_proxy_rules_endpoint_changes_pending gauge',
  'sync_proxy_rules_endpoint_changes_total counter',
  'sync_proxy_rules_last_queued_timestamp_seconds gauge',
  'sync_proxy_rules_last_timestamp_seconds gauge',
  'sync_proxy_rules_no_local_endpoints_total gauge',
  'sync_proxy_rules_service_changes_pending gauge',
  'sync_proxy_rules_service_changes_total counter',
];

t.test('ipvs: those of P-81 for the mode', async (t) => {
  const metrics = metricsOf('ipvs');
  feed(metrics);
  const exported = parseExposition((await metrics.exposition()).text);
  const names = [...exported].flatMap(([name, { type }]) =>
    name.startsWith('kubeproxy_') ? [`${name.slice('kubeproxy_'.length)} ${type}`] : [],
  );
  t.same(names.sort(), [...common, 'sync_proxy_rules_iptables_restore_failures_total counter'].sort());
});

t.test('without accounting in the kernel its counters are absent', async (t) => {
  const metrics = metricsOf('iptables', { readCounters: null });
  const { text } = await metrics.exposition();
  t.notMatch(text, /kubeproxy_iptables_/);
});

t.test('help of each, and names of our own as they are told', async (t) => {
  for (const mode of PROXY_MODES) {
    const metrics = metricsOf(mode);
    feed(metrics);
    const { text, type } = await metrics.exposition();
    t.equal(type, 'text/plain; version=0.0.4; charset=utf-8');
    for (const name of text.matchAll(/^# TYPE (\S+)/gm)) t.match(text, new RegExp(`^# HELP ${name[1]} .*\\.$`, 'm'));
    t.notMatch(text, /NaN|undefined|null/);
  }
  const slis = parseExposition((await metricsOf('nftables').slis()).text);
  t.same([...slis.keys()], ['process_start_time_seconds'], '/metrics/slis as kube-proxy has it');
});

t.test('docs/metrics.md has them all, and no others', async (t) => {
  const text = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
  const tables = text.slice(text.indexOf("### kube-proxy's names"), text.indexOf('## Dashboard'));
  const told = new Set([...tables.matchAll(/`((?:[a-z]+_){2,}[a-z]+)`/g)].map(([, name]) => name!));
  const exported = new Set<string>();
  for (const mode of PROXY_MODES) {
    for (const [, name] of (await metricsOf(mode).exposition()).text.matchAll(/^# TYPE (\S+)/gm)) exported.add(name!);
  }
  for (const name of [...exported].filter((name) => name !== 'kubeplumb_info' && name !== 'kubeplumb_condition')) {
    t.ok(told.has(name), name);
  }
  const labels = ['ip_family', 'traffic_policy', 'health_check_port', 'git_version', 'nftables_sync_failures_total'];
  t.same(
    [...told].filter((name) => !exported.has(name) && !labels.includes(name)),
    [],
  );
});
