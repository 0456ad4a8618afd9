// The choice of an HTTP proxy, and a request through one.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { KubeClient } from '../../agent/source/kube-client.ts';
import { proxyUrlFor } from '../../agent/source/proxy-url.ts';
import { TestApiServer } from '../support/api-server.ts';

const TLS_DIR = join(import.meta.dirname, '../support/tls');
const PROXY = 'http://proxy:3128';

for (const [server, noProxy, expected] of [
  ['https://10.96.0.1', '', PROXY],
  ['https://10.96.0.1', '192.168.0.0/16, 10.96.0.0/12', null],
  ['https://10.112.0.1', '10.96.0.0/12', PROXY],
  ['https://[fd00::1]:6443', 'fd00::/16', null],
  ['https://[fd00::1]:6443', '[fd00::1]:6443', null],
  ['https://[fd00::1]:6443', 'fd00::1', null],
  ['https://api.example.org', 'example.org', null],
  ['https://api.example.org', '.example.org', null],
  ['https://api.example.org', '*.example.org', null],
  ['https://example.org', '.example.org', PROXY],
  ['https://myexample.org', 'example.org', PROXY],
  ['https://api.example.org:6443', 'api.example.org:443', PROXY],
  ['https://api.example.org', 'api.example.org:443', null],
  ['https://api.example.org', '*', null],
  ['https://10.0.0.1', '10.0.0.0/99,10.0.0.0/,x/8', PROXY],
  ['https://localhost:6443', '', null],
  ['https://127.0.0.5:6443', '', null],
  ['https://[::1]:6443', '', null],
  ['http://api.example.org', '', null],
] as const) {
  t.test(`${server} with NO_PROXY=${noProxy}`, (t) => {
    t.equal(proxyUrlFor(new URL(server), undefined, { https_proxy: 'proxy:3128', NO_PROXY: noProxy }), expected);
    t.equal(proxyUrlFor(new URL(server), 'http://own:1', { HTTPS_PROXY: PROXY, NO_PROXY: '*' }), 'http://own:1');
    t.end();
  });
}

t.test('requests go through the proxy of the kubeconfig', async (t) => {
  const key = readFileSync(join(TLS_DIR, 'key.pem'), 'utf8');
  const cert = readFileSync(join(TLS_DIR, 'cert.pem'), 'utf8');
  const server = new TestApiServer({ tls: { key, cert } });
  const target = new URL(await server.start());
  const seen: string[] = [];
  const proxy = createServer().on('connect', (req, socket) => {
    seen.push(req.url ?? '');
    const upstream = connect(Number(target.port), '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      upstream.pipe(socket).pipe(upstream);
    });
    upstream.on('error', () => socket.destroy());
    socket.on('error', () => upstream.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const cluster = {
    server: target.origin,
    'certificate-authority': join(TLS_DIR, 'cert.pem'),
    'proxy-url': `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
  };
  const config = {
    'current-context': 'c',
    contexts: [{ name: 'c', context: { cluster: 'k' } }],
    clusters: [{ name: 'k', cluster }],
  };
  const client = new KubeClient({ kubeconfig: join(t.testdir({ config: JSON.stringify(config) }), 'config') });
  t.teardown(async () => {
    await client.close();
    await server.close();
    proxy.close();
  });
  const response = await client.send({ path: '/api/v1/services', signal: new AbortController().signal });
  for await (const _ of response.body);
  t.equal(response.status, 200);
  t.same(seen, [target.host]);
});
