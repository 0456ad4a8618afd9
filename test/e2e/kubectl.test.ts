// `npm run e2e` with a kubeconfig runs its checks through kubectl against the real kube-apiserver, and leaves nothing behind.
// KUBEPLUMB_E2E_PROXY=kube-proxy has kube-proxy serve instead of the agent, KUBEPLUMB_E2E_MODE names the mode.
import t from 'tap';
import { Netexec } from '../../e2e/cluster/namespaces/netexec.ts';
import { NODES } from '../../e2e/cluster/namespaces/topology.ts';
import { controlPlaneMissing } from '../support/control-plane.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { findPeers } from '../support/peers.ts';
import { KERNEL_AS_IT_IS } from '../support/running-agent.ts';
import { until } from '../support/test-node.ts';
import { scaled } from '../support/time-scale.ts';
import { type PlayedCluster, startPlayedCluster } from './played-cluster.ts';

/** Enough to go every way through kubectl once; E2E_ALL=1 runs all. */
const CHECKS = [
  'ClusterIP',
  'LoadBalancer, addresses',
  'Local keeps',
  'an ingress',
  'rolling update',
  'DNS',
  'agentctl',
];
const MODE = process.env.KUBEPLUMB_E2E_MODE ?? 'nftables';
const ALL = process.env.E2E_ALL === '1';

t.setTimeout(ALL ? 0 : scaled(400_000));
const reason = (await namespacesMissing()) ?? controlPlaneMissing();

async function startKubeProxy({ topology, flags }: PlayedCluster, node: string): Promise<() => unknown> {
  const peers = findPeers(['kube-proxy']);
  if (typeof peers === 'string') throw new Error(peers);
  const argv = [peers['kube-proxy'], `--proxy-mode=${MODE}`, ...flags(node), ...KERNEL_AS_IT_IS];
  const child = topology.spawn(node, argv, { stdio: 'ignore' });
  const probe = new Netexec(node, { name: 'probe', httpPort: 0, udpPort: 0, timeoutMs: 1000 });
  const look = async (): Promise<boolean> =>
    (await probe.fetch({ url: 'http://127.0.0.1:10256/healthz' })).status === 200;
  await until('kube-proxy is healthy', () => look().catch(() => false), 60_000);
  await probe.stop();
  return () => child.kill('SIGKILL');
}

t.test('npm run e2e with E2E_KUBECONFIG', { skip: reason ?? false, timeout: 0 }, async (t) => {
  const cluster = await startPlayedCluster(t);
  const start = async (node: string): Promise<unknown> => {
    if (process.env.KUBEPLUMB_E2E_PROXY !== 'kube-proxy') return cluster.startAgent(node, MODE).ready();
    return t.teardown(await startKubeProxy(cluster, node));
  };
  await Promise.all(NODES.map(({ name }) => start(name)));

  const { code, table, said } = await cluster.e2e(ALL ? [] : CHECKS.flatMap((name) => ['--check', name]));
  t.comment(table.join('\n'));
  t.equal(code, 0, `exit code 0: ${said.join('; ')}`);
  t.same(cluster.failures, [], 'the players had no trouble');
  t.ok(table.filter((line) => line.startsWith('passed')).length >= 5, 'checks were run');
  t.match(table.join('\n'), /skipped.*cluster DNS \(no Service with label/, 'what cannot be is told');
  const namespaces = async (): Promise<{ name: string; deletionTimestamp?: string }[]> => {
    const { items } = (await cluster.call('GET', '/api/v1/namespaces')) as { items: { metadata: { name: string } }[] };
    return items.map(({ metadata }) => metadata).filter(({ name }) => name.startsWith('kubeplumb-e2e-'));
  };
  const [own] = await namespaces();
  t.ok(own?.deletionTimestamp, 'its namespace is removed');

  const interrupted = await cluster.e2e([], { stopAt: /Subtest: pods are reached/ });
  t.equal(interrupted.code, 1, 'SIGTERM fails it');
  const both = await namespaces();
  t.equal(both.length, 2);
  t.ok(
    both.every(({ deletionTimestamp }) => deletionTimestamp),
    'and the namespace goes all the same',
  );
});
