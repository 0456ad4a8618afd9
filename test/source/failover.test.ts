// Several API servers of one cluster: changes arrive whichever of them lives, and dead ones are not pestered.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ApiServerSource } from '../../agent/source/api-server.ts';
import { KubeClient, type KubeClientOptions } from '../../agent/source/kube-client.ts';
import { TestApiServer } from '../support/api-server.ts';
import { ApiStore } from '../support/api-store.ts';
import { NODE_NAME, RecordingLog, RecordingSink, service, TestTimers, until } from './harness.ts';

const KINDS = 4;
/** Refuses every connection. */
const DEAD = 'http://127.0.0.1:9';

interface Served {
  readonly servers: readonly TestApiServer[];
  readonly urls: readonly string[];
  readonly store: ApiStore;
  readonly requests: () => number;
}

async function serve(t: Test, count: number): Promise<Served> {
  const store = new ApiStore();
  const servers = Array.from({ length: count }, () => new TestApiServer({ store }));
  const urls: string[] = [];
  for (const server of servers) urls.push(await server.start());
  t.teardown(() => Promise.all(servers.map((server) => server.listening && server.close())));
  store.put(service('first'));
  return { servers, urls, store, requests: () => servers.reduce((sum, server) => sum + server.requests.length, 0) };
}

interface Started {
  readonly client: KubeClient;
  readonly source: ApiServerSource;
  readonly sink: RecordingSink;
  readonly timers: TestTimers;
  /** Targets of the moves from server to server. */
  readonly moves: string[];
  arrived(name: string): Promise<void>;
  complete(): Promise<void>;
}

function start(t: Test, options: KubeClientOptions): Started {
  const moves: string[] = [];
  const client = new KubeClient({ env: {}, ...options, onMove: ({ to }) => moves.push(to) });
  const sink = new RecordingSink();
  const timers = new TestTimers();
  const source = new ApiServerSource({ client, nodeName: NODE_NAME, log: new RecordingLog(), timers });
  source.start(sink);
  t.teardown(() => source.stop());
  const complete = (): Promise<void> => until('complete', () => source.status().every((s) => s.complete));
  const arrived = (name: string): Promise<void> => until(name, () => sink.objects.has(`Service default/${name}`));
  return { client, source, sink, timers, moves, arrived, complete };
}

const portOf = (url: string): number => Number(new URL(url).port);

t.test('three servers killed in turn while Services change: every change arrives', async (t) => {
  const { servers, urls, store, requests } = await serve(t, 3);
  const { client, sink, moves, arrived, complete } = start(t, { apiServers: urls });
  await complete();
  t.equal(client.server, urls[0]);
  t.strictSame(moves, []);
  const rounds = 6;
  for (let round = 0; round < rounds; round++) {
    const index = urls.indexOf(client.server);
    store.put(service(`before-${round}`));
    await servers[index]!.close();
    store.put(service(`after-${round}`));
    await arrived(`after-${round}`);
    t.equal(client.server, urls[(index + 1) % 3], `round ${round}: the next one's turn`);
    await servers[index]!.start(portOf(urls[index]!));
  }
  store.delete('Service', 'default', 'first');
  await until('gone', () => !sink.objects.has('Service default/first'));
  const expected = Array.from({ length: rounds }, (_, i) => [`before-${i}`, `after-${i}`]).flat();
  t.strictSame([...sink.objects.keys()].sort(), expected.map((name) => `Service default/${name}`).sort());
  t.equal(moves.length, rounds);
  t.equal(sink.calls.filter((call) => call.startsWith('+')).length, 1 + 2 * rounds, 'nothing is delivered twice');
  const lists = servers.flatMap((s) => s.requests).filter(({ query }) => !query.has('resourceVersion'));
  t.equal(lists.length, KINDS, 'listed once: the watches continue on the next server');
  t.ok(requests() <= KINDS * (rounds + 1) * 2, `${requests()} requests`);
});

t.test('the first is dead from the start', async (t) => {
  const { urls, servers } = await serve(t, 1);
  const { client, timers, moves, complete } = start(t, { apiServers: [DEAD], server: urls[0] });
  await complete();
  t.equal(client.server, urls[0]);
  t.strictSame(moves, urls);
  t.strictSame(timers.waits, [], 'no back-off: the next server is asked at once');
  t.equal(servers[0]!.requests.length, KINDS);
});

t.test('all are dead: they are asked with back-off, and the error names each', async (t) => {
  const { source, timers } = start(t, { apiServers: [DEAD, 'http://127.0.0.1:11'] });
  await until('waits', () => timers.waits.length >= 5 * KINDS);
  const { lastError } = source.status()[0]!;
  t.match(lastError, /^no API server can be reached: .*http:\/\/127\.0\.0\.1:9: .*; http:\/\/127\.0\.0\.1:11: |:9: /);
  t.match(lastError, /ECONNREFUSED/);
  t.ok(timers.waits.includes(3200), `back-off ${timers.waits.join()}`);
});

t.test('errors of a server that last', async (t) => {
  const { servers, urls, store } = await serve(t, 2);
  const { moves, arrived, complete } = start(t, { apiServers: urls });
  await complete();
  servers[0]!.failNext({ status: 503 });
  servers[0]!.dropWatches();
  store.put(service('single'));
  await arrived('single');
  t.strictSame(moves, [], 'a single error is none');
  servers[0]!.failNext(...Array.from({ length: 20 }, () => ({ status: 500 })));
  servers[0]!.dropWatches();
  store.put(service('lasting'));
  await arrived('lasting');
  t.strictSame(moves, [urls[1]]);
});

t.test('a server that accepts requests and never answers', async (t) => {
  const silent = new TestApiServer();
  const { urls } = await serve(t, 1);
  const url = await silent.start();
  t.teardown(() => silent.close());
  silent.beSilent();
  const { timers, client, complete } = start(t, { apiServers: [url, ...urls] });
  await until('asked', () => silent.requests.length === KINDS);
  timers.clock.advance(76_000);
  await complete();
  t.equal(client.server, urls[0]);
});

t.test('the ClusterIP of the API server is no candidate until its rules exist', async (t) => {
  const { urls, servers, store } = await serve(t, 1);
  const env = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: '1' };
  const { client, source, moves, arrived, complete } = start(t, { apiServers: urls, env });
  await complete();
  await servers[0]!.close();
  await until('error', () => source.status().every((s) => s.lastError !== null));
  t.strictSame(moves, []);
  t.notMatch(source.status()[0]!.lastError, /127\.0\.0\.1:1\b/);
  client.useServiceAddress();
  await until('tried', () => /https:\/\/127\.0\.0\.1:1: /.test(source.status()[0]!.lastError ?? ''));
  await servers[0]!.start(portOf(urls[0]!));
  store.put(service('back'));
  await arrived('back');
  t.equal(client.server, urls[0]);
});

t.test('certificates: the server name of the kubeconfig holds for all URLs, and a wrong one moves on', async (t) => {
  const folder = join(import.meta.dirname, '../support/tls');
  const read = (name: string): string => readFileSync(join(folder, name), 'utf8');
  const server = new TestApiServer({ tls: { key: read('key.pem'), cert: read('cert.pem') } });
  const raw = new URL(await server.start(0, { everywhere: true }));
  t.teardown(() => server.close());
  const { urls } = await serve(t, 1);
  // The certificate is for 127.0.0.1 and localhost.
  raw.hostname = '127.0.0.2';
  const kubeconfig = (name: object): string => {
    const cluster = { server: urls[0], 'certificate-authority': join(folder, 'cert.pem'), ...name };
    const config = {
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'k' } }],
      clusters: [{ name: 'k', cluster }],
    };
    return join(t.testdir({ config: JSON.stringify(config) }), 'config');
  };
  const wrong = start(t, { kubeconfig: kubeconfig({}), apiServers: [raw.href] });
  await wrong.complete();
  t.equal(wrong.client.server, urls[0], 'another name than the certificate has is no server of ours');
  await wrong.source.stop();
  const right = start(t, { kubeconfig: kubeconfig({ 'tls-server-name': 'localhost' }), apiServers: [raw.href] });
  await right.complete();
  t.equal(right.client.server, raw.origin);
});
