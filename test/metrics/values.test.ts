// What the metrics say: fed by hand, scraped twice.

import { Registry } from 'prom-client';
import t from 'tap';
import { gateEnabled } from '../../agent/metrics/build-info.ts';
import { NoLocalEndpoints } from '../../agent/metrics/no-local-endpoints.ts';
import type { OwnFigures } from '../../agent/metrics/own-metrics.ts';
import { registerProcessMetrics } from '../../agent/metrics/process-metrics.ts';
import type { WatchStatus } from '../../agent/source/source.ts';
import { feed, metricsOf, parseExposition } from '../support/metrics.ts';
import { changeTo, endpoint, portPlan, servicePlan } from '../support/plans.ts';

async function seriesOf(text: Promise<{ text: string }>): Promise<ReadonlyMap<string, number>> {
  return new Map([...parseExposition((await text).text).values()].flatMap(({ series }) => [...series]));
}

t.test('of syncs, by family', async (t) => {
  const metrics = metricsOf('nftables');
  feed(metrics);
  const series = await seriesOf(metrics.exposition());
  const p = 'kubeproxy_sync';
  t.match(Object.fromEntries(series), {
    [`${p}_proxy_rules_duration_seconds_count{ip_family=IPv4}`]: 2,
    [`${p}_proxy_rules_duration_seconds_count{ip_family=IPv6}`]: 1,
    [`${p}_full_proxy_rules_duration_seconds_count{ip_family=IPv4}`]: 1,
    [`${p}_partial_proxy_rules_duration_seconds_bucket{ip_family=IPv4,le=0.002}`]: 0,
    [`${p}_partial_proxy_rules_duration_seconds_bucket{ip_family=IPv4,le=0.004}`]: 1,
    [`${p}_proxy_rules_nftables_sync_failures_total{ip_family=IPv4}`]: 1,
    [`${p}_proxy_rules_nftables_sync_failures_total{ip_family=IPv6}`]: 0,
    [`${p}_proxy_rules_nftables_cleanup_failures_total{ip_family=IPv6}`]: 1,
    [`${p}_proxy_rules_last_timestamp_seconds{ip_family=IPv6}`]: 1000,
    [`${p}_proxy_rules_last_queued_timestamp_seconds{ip_family=IPv4}`]: 1000,
    [`${p}_proxy_rules_endpoint_changes_total{}`]: 7,
    [`${p}_proxy_rules_endpoint_changes_pending{}`]: 3,
    [`${p}_proxy_rules_service_changes_total{}`]: 8,
    [`${p}_proxy_rules_service_changes_pending{}`]: 3,
    'kubeproxy_network_programming_duration_seconds_sum{ip_family=IPv4}': 1,
    'kubeproxy_network_programming_duration_seconds_count{ip_family=IPv4}': 1,
    'kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=IPv4}': 2,
    'kubeproxy_proxy_healthz_total{code=503}': 1,
    'kubeproxy_proxy_livez_total{code=200}': 1,
    'kubeplumb_apply_duration_seconds_count{backend=nftables,operation=start}': 1,
    'kubeplumb_event_to_kernel_seconds_count{}': 1,
    'rest_client_requests_total{code=200,host=192.0.2.1:6443,method=GET}': 2,
    'rest_client_requests_total{code=<error>,host=192.0.2.1:6443,method=GET}': 1,
    'rest_client_request_duration_seconds_count{host=192.0.2.1:6443,verb=GET}': 2,
    'rest_client_response_size_bytes_sum{host=192.0.2.1:6443,verb=GET}': 1000,
    'kubeplumb_info{mode=nftables,version=1.2.3}': 1,
    'kubernetes_feature_enabled{name=ComponentFlagz,stage=BETA}': 1,
  });
  const again = await seriesOf(metrics.exposition());
  t.equal(again.get('kubeproxy_sync_proxy_rules_endpoint_changes_total{}'), 7, 'totals are not added up');
});

t.test('iptables mode: failed partial syncs, rules, and packets the kernel counted', async (t) => {
  const metrics = metricsOf('iptables');
  feed(metrics);
  t.match(Object.fromEntries(await seriesOf(metrics.exposition())), {
    'kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family=IPv4}': 1,
    'kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family=IPv4}': 1,
    'kubeproxy_sync_proxy_rules_iptables_total{ip_family=IPv4,table=nat}': 26,
    'kubeproxy_sync_proxy_rules_iptables_last{ip_family=IPv4,table=filter}': 3,
    'kubeproxy_iptables_ct_state_invalid_dropped_packets_total{}': 5,
    'kubeproxy_iptables_localhost_nodeports_accepted_packets_total{}': 6,
  });
});

const watch: WatchStatus = {
  kind: 'Service',
  source: '',
  complete: true,
  optional: false,
  lastHeardMs: 940_000,
  silentMs: 60_000,
  outage: false,
  objects: 12,
  lastError: null,
  watches: 4,
  lists: 2,
};

t.test('our own, as they are when scraped', async (t) => {
  let figures: OwnFigures = {
    report: null,
    repairs: 0,
    conditions: new Map([['KubeProxyRunning', 'two proxies']]),
    watches: [watch, { ...watch, kind: 'Node', lastHeardMs: null, silentMs: null, watches: 0, lists: 0 }],
    problems: [
      { object: 'Service shop/web', field: 'a', message: '' },
      { object: 'Service shop/web', field: 'b', message: '' },
      { object: 'EndpointSlice shop/web-1', field: 'a', message: '' },
    ],
    closedHealthPorts: 1,
  };
  const metrics = metricsOf('nftables', { figures: () => figures });
  t.match(Object.fromEntries(await seriesOf(metrics.exposition())), {
    'kubeplumb_condition{name=KubeProxyRunning}': 1,
    'kubeplumb_services_skipped{reason=refused}': 0,
    'kubeplumb_services_skipped{reason=unusable}': 1,
    'kubeplumb_services_skipped{reason=health_check_port}': 1,
    'kubeplumb_watch_restarts_total{kind=Service}': 3,
    'kubeplumb_watch_relists_total{kind=Service}': 1,
    'kubeplumb_watch_restarts_total{kind=Node}': 0,
    'kubeplumb_watch_silence_seconds{kind=Service}': 60,
    'kubeplumb_watched_objects{kind=Service}': 12,
    'kubeplumb_syncs_total{}': 0,
  });
  figures = {
    ...figures,
    repairs: 2,
    conditions: new Map(),
    report: {
      started: true,
      syncs: 5,
      failures: 1,
      lastSyncMs: 0,
      lastDurationMs: 0,
      firstDurationMs: 0,
      lastError: null,
      lastFailure: null,
      counts: { added: 10, deleted: 4, objects: 3, transactions: 6, bytes: 700 },
      refused: (['IPv4', 'IPv6'] as const).map((family) => ({ service: 'shop/huge', family, message: '' })),
    },
  };
  const series = await seriesOf(metrics.exposition());
  t.match(Object.fromEntries(series), {
    'kubeplumb_kernel_changes_total{operation=added}': 10,
    'kubeplumb_kernel_changes_total{operation=removed}': 4,
    'kubeplumb_kernel_changes_total{operation=structure}': 3,
    'kubeplumb_kernel_transactions_total{}': 6,
    'kubeplumb_kernel_sent_bytes_total{}': 700,
    'kubeplumb_syncs_total{}': 5,
    'kubeplumb_sync_failures_total{}': 1,
    'kubeplumb_drift_repairs_total{}': 2,
    'kubeplumb_services_skipped{reason=refused}': 1,
  });
  t.notOk(
    [...series.keys()].some((key) => key.startsWith('kubeplumb_condition')),
    'a condition that has ended is gone',
  );
});

t.test('what a Local policy leaves without endpoints (S-31, S-32, S-90, S-91)', async (t) => {
  const remote = endpoint('10.128.0.1');
  const plan = servicePlan('web', [
    portPlan({ internalLocal: true, externalLocal: true, cluster: [remote], local: [] }),
    portPlan({ portName: 'b', internalLocal: true, cluster: [remote], local: [] }),
    portPlan({ portName: 'c', internalLocal: true, cluster: [remote], local: [endpoint('10.128.0.2', 80, true)] }),
    portPlan({ portName: 'd', internalLocal: true, externalLocal: true }),
  ]);
  const ports = new NoLocalEndpoints('ports');
  const services = new NoLocalEndpoints('services');
  const totals = (of: NoLocalEndpoints) => [of.total('IPv4', 'internal'), of.total('IPv4', 'external')];
  for (const counted of [ports, services]) counted.planned([changeTo(plan), changeTo(servicePlan('other', []))], true);
  t.same(totals(ports), [2, 1]);
  t.same(totals(services), [1, 1]);
  t.equal(ports.total('IPv6', 'internal'), 0);
  ports.planned([{ service: 'shop/web', family: 'IPv4', plan: null }], false);
  t.same(totals(ports), [0, 0], 'a Service that is gone');
  services.planned([], true);
  t.same(totals(services), [0, 0], 'all planned anew');
});

const PROC: Record<string, string> = {
  '/proc/self/status': 'Name:\tnode\nVmSize:\t    2000 kB\nVmRSS:\t     100 kB\n',
  '/proc/self/limits':
    'Limit                     Soft Limit           Hard Limit           Units\n' +
    'Max open files            1024                 4096                 files\n' +
    'Max address space         unlimited            unlimited            bytes\n',
  '/proc/self/net/netstat': 'TcpExt: A B\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 55 66\n',
};

t.test('of the process, from /proc', async (t) => {
  const read = (path: string): string => {
    const text = PROC[path];
    if (text === undefined) throw new Error('not there');
    return text;
  };
  const registry = new Registry();
  registerProcessMetrics({ registry, read, count: () => 17, startedSeconds: 1234.5 });
  const of = async (from: Registry) => Object.fromEntries(await seriesOf(from.metrics().then((text) => ({ text }))));
  t.match(await of(registry), {
    'process_open_fds{}': 17,
    'process_max_fds{}': 1024,
    'process_resident_memory_bytes{}': 102_400,
    'process_virtual_memory_bytes{}': 2_048_000,
    'process_virtual_memory_max_bytes{}': 2 ** 64,
    'process_start_time_seconds{}': 1234.5,
    'process_network_receive_bytes_total{}': 55,
    'process_network_transmit_bytes_total{}': 66,
  });
  const hidden = new Registry();
  const none = (): never => {
    throw new Error('hidden');
  };
  registerProcessMetrics({ registry: hidden, read: none, count: none });
  const names = Object.keys(await of(hidden)).filter((name) => name.startsWith('process_'));
  t.same(names, ['process_cpu_seconds_total{}', 'process_start_time_seconds{}'], 'what cannot be read is absent');
});

t.test('feature gates: what is configured counts, then AllBeta, then the default', async (t) => {
  t.equal(gateEnabled({}, 'ComponentFlagz'), true);
  t.equal(gateEnabled({ ComponentFlagz: false }, 'ComponentFlagz'), false);
  t.equal(gateEnabled({ AllBeta: false }, 'ComponentStatusz'), false);
  t.equal(gateEnabled({ AllBeta: false, ComponentStatusz: true }, 'ComponentStatusz'), true);
  t.equal(gateEnabled({ AllBeta: false }, 'NFTablesProxyMode'), true);
});
