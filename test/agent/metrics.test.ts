// A running agent in nftables mode, scraped: every server, every metric with what happened; events on the API server;
// and the end it makes of itself when an address is taken and it must not go on.
import t from 'tap';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { feed, metricsOf, parseExposition } from '../support/metrics.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import type { Network } from '../support/network.ts';
import { podIp, startTestNode, type TestNode, until } from '../support/test-node.ts';

const missing = await namespacesMissing();
const IP = '10.96.0.80';

/** What the metrics server answers, as `STATUS BODY`, by path. */
function get<P extends string>(net: Network, paths: readonly P[]): Record<P, string> {
  const script = `const out = {};
    for (const path of ${JSON.stringify(paths)}) {
      const response = await fetch('http://127.0.0.1:10249' + path);
      out[path] = response.status + ' ' + await response.text();
    }
    process.stdout.write(JSON.stringify(out));`;
  return JSON.parse(net.exec('node', [process.execPath, '--input-type=module', '--eval', script]));
}

const reasonsOf = ({ server }: TestNode): unknown[] => server.events.map(({ object }) => object.reason);

t.test('an agent, scraped', { skip: missing ?? false }, async (t) => {
  const node = await startTestNode(t, {
    objects: [
      rawService('web', {
        type: 'LoadBalancer',
        clusterIP: IP,
        clusterIPs: [IP],
        externalTrafficPolicy: 'Local',
        internalTrafficPolicy: 'Local',
      }),
      rawSlice('web-1', 'web', [podIp(1)]),
      rawService('broken', { clusterIP: 'nonsense', clusterIPs: ['nonsense'] }),
    ],
  });
  const agent = node.agent({ flags: ['--profiling'] });
  await agent.ready();
  const { version } = node.server.store.put(
    rawSlice('web-1', 'web', [podIp(1), podIp(3)], {
      metadata: {
        ...rawSlice('web-1', 'web', []).metadata,
        annotations: { 'endpoints.kubernetes.io/last-change-trigger-time': new Date().toISOString() },
      },
    }),
  );
  await agent.acknowledged(version);
  await agent.health();

  const pages = get(node.net, ['/metrics', '/proxyMode', '/healthz/ping', '/configz', '/flagz', '/statusz']);
  const scraped = pages['/metrics'];
  t.equal(scraped.slice(0, 4), '200 ');
  const exported = parseExposition(scraped.slice(4));
  const all = metricsOf('nftables');
  feed(all);
  const types = (text: string): string[] => [...text.matchAll(/^# TYPE .*$/gm)].map(String).sort();
  t.same(types(scraped), types((await all.exposition()).text), 'all metrics');
  const value = (series: string): number | undefined =>
    exported.get(/^[a-z_]+?(?=(_count)?\{)/.exec(series)![0])?.series.get(series);
  const p = 'kubeproxy_sync_proxy_rules';
  t.match(value(`${p}_duration_seconds_count{ip_family=IPv4}`), 2);
  t.equal(value('kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=IPv4}'), 1);
  t.equal(value('kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=IPv4}'), 1);
  t.equal(value('kubeproxy_network_programming_duration_seconds_count{ip_family=IPv4}'), 1);
  t.equal(value(`${p}_endpoint_changes_total{}`), 2);
  t.equal(value(`${p}_endpoint_changes_pending{}`), 0);
  t.equal(value(`${p}_service_changes_pending{}`), 0);
  t.equal(value(`${p}_no_local_endpoints_total{ip_family=IPv4,traffic_policy=internal}`), 1);
  t.equal(value(`${p}_no_local_endpoints_total{ip_family=IPv4,traffic_policy=external}`), 1);
  t.equal(value(`${p}_nftables_sync_failures_total{ip_family=IPv4}`), 0);
  t.equal(value('kubeproxy_proxy_healthz_total{code=200}'), 1);
  t.equal(value('kubeproxy_proxy_livez_total{code=200}'), 1);
  t.ok(value('kubeplumb_kernel_changes_total{operation=added}')! > 0);
  t.equal(value('kubeplumb_event_to_kernel_seconds_count{}'), 1);
  t.equal(value('kubeplumb_apply_duration_seconds_count{backend=nftables,operation=start}'), 1);
  t.equal(value('kubeplumb_services_skipped{reason=unusable}'), 1);
  t.equal(value('kubeplumb_watched_objects{kind=Node}'), 1);
  t.ok(value(`rest_client_requests_total{code=200,host=127.0.0.1:${node.port},method=GET}`)! >= 4);
  const queued = value(`${p}_last_queued_timestamp_seconds{ip_family=IPv4}`)!;
  const synced = value(`${p}_last_timestamp_seconds{ip_family=IPv4}`)!;
  t.ok(queued <= synced && synced <= Date.now() / 1000 && queued > Date.now() / 1000 - 600, 'in seconds');

  t.equal(pages['/proxyMode'], '200 nftables');
  t.equal(pages['/healthz/ping'], '200 ok');
  const configz = JSON.parse(pages['/configz'].slice(4));
  t.match(configz, { 'kubeproxy.config.k8s.io': { mode: 'nftables', nodePortAddresses: ['primary'] } });
  t.match(pages['/flagz'], /\nproxy-mode:nftables\n/);
  t.match(pages['/statusz'], /^Paths .*\/debug\/flags\/v/m, 'with --profiling');

  await until('an event tells of the start', () => reasonsOf(node).includes('Starting'));
  t.same(reasonsOf(node), ['Starting']);
  t.match(node.server.events[0], { method: 'POST', object: { reportingController: 'kube-proxy', type: 'Normal' } });
});

t.test('taken ports: told as events, and the end where that is asked for', { skip: missing ?? false }, async (t) => {
  const node = await startTestNode(t);
  const first = node.agent();
  await first.ready();
  const second = node.agent({ flags: ['--bind-address-hard-fail', '--socket=/dev/null/none'] });
  t.equal(await second.ended, 1, 'exit code');
  const reasons = reasonsOf(node);
  t.ok(
    reasons.includes('FailedToStartProxierHealthcheck') || reasons.includes('FailedToStartMetricServer'),
    String(reasons),
  );
  t.match(second.lines.at(-1)?.msg, /server cannot listen: .*EADDRINUSE/);
  const third = node.agent({ flags: ['--socket=/dev/null/none'] });
  await third.line('tries again', ({ msg }) => msg === 'metrics server cannot listen, will try again');
  await first.stop();
  await third.line('listens', ({ msg }) => msg === 'metrics server listens');
  t.equal(get(node.net, ['/healthz'])['/healthz'], '200 ok');
});
