// How the agent reaches API servers: several of them, and the ClusterIP that only its own rules make work.
import { writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { TestApiServer } from '../support/api-server.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { NODE_IPS } from '../support/network.ts';
import { RunningAgent } from '../support/running-agent.ts';
import { startTestNode, type TestNode, until } from '../support/test-node.ts';

const skip = (await namespacesMissing()) ?? false;
const TLS = join(import.meta.dirname, '../support/tls');
/** Refuses connections. */
const DEAD = 'http://127.0.0.1:9';
const CLUSTER_IP = '10.96.0.1';
const IN_CLUSTER = { KUBERNETES_SERVICE_HOST: CLUSTER_IP, KUBERNETES_SERVICE_PORT: '443' };

function start(node: TestNode, flags: readonly string[], env: Record<string, string> = {}): RunningAgent {
  const agent = new RunningAgent({ net: node.net, flags, env });
  node.agents.push(agent);
  return agent;
}

t.test('--apiserver, the first is dead; the environment takes its place', { skip }, async (t) => {
  const node = await startTestNode(t);
  const flagged = start(node, [`--apiserver=${DEAD}`, `--apiserver=${node.url}`]);
  await flagged.ready();
  t.match((await flagged.status()).watches[0], { source: node.url, lastError: null });
  t.match(
    flagged.lines.find(({ msg }) => msg.startsWith('another API server')),
    { from: DEAD, to: node.url },
  );
  await flagged.stop();
  const told = start(node, [`--apiserver=${DEAD}`], { KUBEPLUMB_APISERVER: `${node.url}, http://127.0.0.1:11` });
  await told.ready();
  t.notOk(told.lines.some(({ msg }) => msg.startsWith('another API server')));
});

t.test('the ClusterIP is used once its rules exist, and not before', { skip }, async (t) => {
  const node = await startTestNode(t);
  const { store } = node.server;
  const tls = {
    key: await readFile(join(TLS, 'key.pem'), 'utf8'),
    cert: await readFile(join(TLS, 'cert.pem'), 'utf8'),
  };
  const [first, second] = [new TestApiServer({ store, tls }), new TestApiServer({ store, tls })];
  t.teardown(() => Promise.all([first, second].map((server) => server.listening && server.close())));
  const listen = async (server: TestApiServer, port = 0): Promise<number> =>
    Number(new URL(await node.net.within('node', () => server.start(port, { everywhere: true }))).port);
  const port = await listen(first);
  const behind = await listen(second);
  await first.close();
  store.load([
    rawService('kubernetes', {
      clusterIP: CLUSTER_IP,
      clusterIPs: [CLUSTER_IP],
      ports: [{ name: 'https', port: 443, protocol: 'TCP' }],
    }),
    {
      ...rawSlice('kubernetes-1', 'kubernetes', [NODE_IPS[0]!]),
      ports: [{ name: 'https', port: behind, protocol: 'TCP' }],
    },
  ]);
  const cluster = {
    server: `https://127.0.0.1:${port}`,
    'certificate-authority': join(TLS, 'cert.pem'),
    'tls-server-name': 'localhost',
  };
  const config = {
    'current-context': 'c',
    contexts: [{ name: 'c', context: { cluster: 'k' } }],
    clusters: [{ name: 'k', cluster }],
  };
  const kubeconfig = join(t.testdir({}), 'kubeconfig');
  writeFileSync(kubeconfig, JSON.stringify(config));

  const agent = start(node, [`--kubeconfig=${kubeconfig}`], IN_CLUSTER);
  await agent.line('retry', ({ msg }) => msg === 'Watch failed, trying again');
  t.notMatch(JSON.stringify((await agent.status()).watches), CLUSTER_IP, 'without rules nobody is behind it');
  t.equal(second.requests.length, 0);
  await listen(first, port);
  await agent.ready();

  await first.close();
  store.put(rawSlice('later-1', 'later', ['10.128.1.1']));
  const version = store.put(rawService('later', { clusterIP: '10.96.0.77', clusterIPs: ['10.96.0.77'] }));
  await until('it arrived', () => node.nft('list', 'ruleset').includes('10.96.0.77'));
  t.match((await agent.status()).watches[0]?.source, `https://${CLUSTER_IP}`, 'through its own rules');
  t.ok(second.requests.length > 0, String(version));
});
