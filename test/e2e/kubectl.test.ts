// `npm run e2e` with a kubeconfig runs its checks through kubectl against the real kube-apiserver, and leaves nothing behind.
// Kubelets and controllers are played (kubelet.ts); KUBEPLUMB_E2E_PROXY=kube-proxy has kube-proxy serve instead of the agent.

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Netexec } from '../../e2e/cluster/namespaces/netexec.ts';
import { LAN_IPS, NODES, POD_CIDRS, Topology } from '../../e2e/cluster/namespaces/topology.ts';
import { ControlPlane, controlPlaneMissing } from '../support/control-plane.ts';
import { namespacesMissing, within } from '../support/namespaces.ts';
import { findPeers } from '../support/peers.ts';
import { agentFolder, KERNEL_AS_IT_IS, RunningAgent } from '../support/running-agent.ts';
import { until } from '../support/test-node.ts';
import { scaled } from '../support/time-scale.ts';
import { type Call, Kubelet } from './kubelet.ts';

const MAIN = fileURLToPath(new URL('../../e2e/main.ts', import.meta.url));
const LIMIT_MS = scaled(115_000);
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

t.setTimeout(process.env.E2E_ALL === '1' ? 0 : LIMIT_MS);
const reason = (await namespacesMissing()) ?? controlPlaneMissing();

/** Requests of the administrator, from the network namespace of the API server. */
function caller(server: ControlPlane, client: Netexec): Call {
  const { token } = JSON.parse(readFileSync(server.kubeconfig, 'utf8')).users[0].user;
  return async (method, path, type = 'application/json', content = undefined) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': type };
    const body = content === undefined ? {} : { body: JSON.stringify(content) };
    const answer = await client.fetch({ url: server.url + path, method, headers, ...body });
    if (answer.status >= 300 && !(method === 'DELETE' && answer.status === 404))
      throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`);
    return JSON.parse(answer.body);
  };
}

/** @returns how to end it */
async function startProxy(topology: Topology, server: ControlPlane, node: string): Promise<() => unknown> {
  const flags = [
    `--hostname-override=${node}`,
    `--cluster-cidr=${POD_CIDRS.join(',')}`,
    `--kubeconfig=${server.kubeconfig}`,
  ];
  if (process.env.KUBEPLUMB_E2E_PROXY !== 'kube-proxy') {
    const net = { spawn: (_: string, argv: readonly string[], o = {}) => topology.spawn(node, argv, o) };
    const agent = new RunningAgent({
      net,
      mode: MODE as 'nftables',
      flags: [...flags, '--healthz-bind-address=0.0.0.0:10256'],
    });
    await agent.ready();
    return () => agent.stop('SIGKILL');
  }
  const peers = findPeers(['kube-proxy']);
  if (typeof peers === 'string') throw new Error(peers);
  const child = topology.spawn(node, [peers['kube-proxy'], `--proxy-mode=${MODE}`, ...flags, ...KERNEL_AS_IT_IS], {
    stdio: 'ignore',
  });
  const probe = new Netexec(node, { name: 'probe', httpPort: 0, udpPort: 0, timeoutMs: 1000 });
  const healthy = () =>
    probe.fetch({ url: 'http://127.0.0.1:10256/healthz' }).then(
      ({ status }) => status === 200,
      () => false,
    );
  await until('kube-proxy is healthy', healthy, 60_000);
  await probe.stop();
  return () => child.kill('SIGKILL');
}

t.test('npm run e2e with E2E_KUBECONFIG', { skip: reason ?? false, timeout: 0 }, async (t) => {
  const topology = new Topology();
  t.teardown(() => topology.close());
  const server = new ControlPlane({ bindAddress: LAN_IPS[0], within: (act) => within('lan', act) });
  t.teardown(() => server.close());
  await server.start();
  const client = new Netexec('lan', { name: 'api-client', httpPort: 0, udpPort: 0, timeoutMs: 30_000 });
  t.teardown(() => client.stop());
  const call = caller(server, client);
  const kubelet = new Kubelet(topology, call);
  t.teardown(() => kubelet.stop());
  const failures: string[] = [];
  await kubelet.start((error) => failures.push(error.message));
  const ends = await Promise.all(NODES.map(({ name }) => startProxy(topology, server, name)));
  t.teardown(() => Promise.all(ends.map((end) => end())));

  const selected = process.env.E2E_ALL === '1' ? [] : CHECKS.flatMap((name) => ['--check', name]);
  const argv = [process.execPath, MAIN, ...selected, '--artifacts', process.env.E2E_ARTIFACTS ?? agentFolder()];
  const child = topology.spawn('lan', argv, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, E2E_KUBECONFIG: server.kubeconfig, HOME: agentFolder() },
  });
  const lines: string[] = [];
  for (const stream of [child.stdout!, child.stderr!])
    createInterface({ input: stream }).on('line', (line) => lines.push(line));
  const code = await new Promise((resolve) => child.once('close', resolve));
  const table = lines.filter((line) => /^(passed|failed|skipped) /.test(line));
  t.comment(table.join('\n'));
  const wrong = lines.filter((line) => /^\s*not ok|^e2e: /.test(line));
  t.equal(code, 0, `exit code 0: ${wrong.join('; ')}`);
  t.same(failures, [], 'the players of kubelets had no trouble');
  t.ok(table.filter((line) => line.startsWith('passed')).length >= 5, 'checks were run');
  t.match(table.join('\n'), /skipped.*cluster DNS \(no Service with label/, 'what cannot be is told');
  const { items } = (await call('GET', '/api/v1/namespaces')) as { items: { metadata: Record<string, string> }[] };
  const own = items.filter(({ metadata }) => metadata.name?.startsWith('kubeplumb-e2e-'));
  t.equal(own.length, 1, 'it made a namespace');
  t.ok(
    own.every(({ metadata }) => metadata.deletionTimestamp),
    'and removed it',
  );
});
