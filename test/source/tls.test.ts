// Servers reached over TLS. Key and certificate in test/support/tls are self-signed, made by
// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj "/CN=kubeplumb test"
//  -addext "subjectAltName=IP:127.0.0.1,DNS:localhost" -keyout key.pem -out cert.pem`, and protect nothing.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ApiServerSource } from '../../agent/source/api-server.ts';
import { KubeClient } from '../../agent/source/kube-client.ts';
import { TestApiServer } from '../support/api-server.ts';
import { NODE_NAME, RecordingLog, RecordingSink, service, TestTimers, until } from './harness.ts';

const TLS_DIR = join(import.meta.dirname, '../support/tls');
const key = readFileSync(join(TLS_DIR, 'key.pem'), 'utf8');
const cert = readFileSync(join(TLS_DIR, 'cert.pem'), 'utf8');

async function start(t: Test, user: object, options: { clientCertificates?: boolean; trust?: boolean } = {}) {
  const ca = options.clientCertificates === true ? { ca: cert } : {};
  const server = new TestApiServer({ tls: { key, cert, ...ca } });
  server.store.put(service('a'));
  const cluster = {
    server: await server.start(),
    ...(options.trust !== false && { 'certificate-authority': join(TLS_DIR, 'cert.pem') }),
  };
  const config = {
    'current-context': 'c',
    contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
    clusters: [{ name: 'k', cluster }],
    users: [{ name: 'u', user }],
  };
  const dir = t.testdir({ config: JSON.stringify(config), token: 'one' });
  const client = new KubeClient({ kubeconfig: join(dir, 'config') });
  const sink = new RecordingSink();
  const timers = new TestTimers();
  const source = new ApiServerSource({ client, nodeName: NODE_NAME, log: new RecordingLog(), timers });
  source.start(sink);
  t.teardown(async () => {
    await source.stop();
    await server.close();
  });
  return { server, source, sink, dir, timers };
}

const complete = (source: ApiServerSource) => until('complete', () => source.status().every((s) => s.complete));

t.test('all watches share one HTTP/2 connection, and one that is dropped does not harm the others', async (t) => {
  const { server, source, sink } = await start(t, { token: 'x' });
  await complete(source);
  t.equal(server.connections, 1);
  t.equal(server.requests[0]?.headers[':method'], 'GET', 'HTTP/2');
  server.dropWatches('cut');
  server.store.put(service('b'));
  await until('b', () => sink.objects.has('Service default/b'));
  t.equal(server.connections, 1);
});

t.test('a connection on which requests are not answered gets no others', async (t) => {
  const { server, source, timers } = await start(t, { token: 'x' });
  await complete(source);
  server.beSilent();
  server.dropWatches('end');
  await until('asked again', () => server.requests.length === 8);
  await timers.clock.advance(75_000);
  await until('asked once more', () => server.requests.length === 12);
  t.equal(server.connections, 2);
});

t.test('a rotated token is used by the next request', async (t) => {
  const { server, source, dir } = await start(t, { tokenFile: 'token' });
  await complete(source);
  t.equal(server.requests.at(-1)?.headers.authorization, 'Bearer one');
  writeFileSync(join(dir, 'token'), 'two\n');
  server.dropWatches('end');
  await until('resumed', () => server.requests.length === 8);
  t.equal(server.requests.at(-1)?.headers.authorization, 'Bearer two');
});

t.test('a token that cannot be read is no outage of the server', async (t) => {
  const { server, source, dir } = await start(t, { tokenFile: 'token' });
  await complete(source);
  rmSync(join(dir, 'token'));
  server.dropWatches('end');
  await until('errors', () =>
    source.status().every(({ lastError }) => /tokenFile: cannot be read/.test(lastError ?? '')),
  );
  t.ok(source.status().every(({ outage }) => !outage));
});

t.test('client certificates', async (t) => {
  const files = { 'client-certificate': join(TLS_DIR, 'cert.pem'), 'client-key': join(TLS_DIR, 'key.pem') };
  const { source, sink } = await start(t, files, { clientCertificates: true });
  await complete(source);
  t.equal(sink.objects.size, 1);
});

t.test('a server that is not trusted is reported', async (t) => {
  const { source, sink } = await start(t, {}, { trust: false });
  await until('error', () => source.status().every((s) => s.lastError !== null));
  t.match(source.status()[0]?.lastError, /self-signed certificate/);
  t.same(sink.calls, []);
});
