import { createServer, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import t from 'tap';
import { type ServiceHealthFailure, ServiceHealthServers } from '../../agent/serve/service-health.ts';
import type { Family } from '../../native/ip.ts';

const noIPv6 = networkInterfaces().lo?.some((a) => a.address === '::1') ? false : 'this host has no ::1';
const LOOPBACK = { IPv4: ['127.0.0.1'], IPv6: ['::1'] };

function setup(addresses: Record<Family, 'all' | string[]> = LOOPBACK) {
  const failures: ServiceHealthFailure[] = [];
  const proxy = { healthy: true };
  const servers = new ServiceHealthServers({
    addresses,
    proxyHealthy: () => proxy.healthy,
    onFailure: (failure) => failures.push(failure),
  });
  t.teardown(() => servers.stop());
  return { servers, failures, proxy };
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const { server, port } = await occupy(0);
  await new Promise((resolve) => {
    server.close(resolve);
  });
  return port;
}

async function occupy(port: number, host = '127.0.0.1'): Promise<{ server: Server; port: number }> {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(port, host, resolve);
  });
  return { server, port: (server.address() as { port: number }).port };
}

const refused = (url: string) =>
  fetch(url).then(
    () => false,
    () => true,
  );

t.test('answers with count and health, per family', { skip: noIPv6 }, async (t) => {
  const { servers, proxy } = setup();
  const port = await freePort();
  servers.set('shop/web', 'IPv4', { port, localEndpoints: 2 });
  servers.set('shop/web', 'IPv6', { port, localEndpoints: 0 });
  await servers.apply();
  const v4 = await fetch(`http://127.0.0.1:${port}/any/path`, { method: 'POST', body: 'x' });
  t.equal(v4.status, 200);
  t.equal(v4.headers.get('x-load-balancing-endpoint-weight'), '2');
  t.equal(v4.headers.get('x-content-type-options'), 'nosniff');
  t.equal(
    await v4.text(),
    '{"service":{"namespace":"shop","name":"web"},"localEndpoints":2,"serviceProxyHealthy":true}',
  );
  t.equal((await fetch(`http://[::1]:${port}/`)).status, 503);
  proxy.healthy = false;
  const unhealthy = await fetch(`http://127.0.0.1:${port}/`);
  t.equal(unhealthy.status, 503);
  t.equal(unhealthy.headers.get('x-load-balancing-endpoint-weight'), '2');
});

t.test('a changed count needs no new listener, a changed port moves it, null closes it', async (t) => {
  const { servers } = setup();
  const [port, other] = [await freePort(), await freePort()];
  servers.set('a/b', 'IPv4', { port, localEndpoints: 0 });
  await servers.apply();
  servers.set('a/b', 'IPv4', { port, localEndpoints: 3 });
  t.match(await (await fetch(`http://127.0.0.1:${port}/`)).json(), { localEndpoints: 3 });
  servers.set('a/b', 'IPv4', { port: other, localEndpoints: 3 });
  await servers.apply();
  t.ok(await refused(`http://127.0.0.1:${port}/`));
  t.equal((await fetch(`http://127.0.0.1:${other}/`)).status, 200);
  servers.set('a/b', 'IPv4', null);
  servers.set('never/was', 'IPv4', null);
  await servers.apply();
  t.ok(await refused(`http://127.0.0.1:${other}/`));
  t.same(servers.open(), []);
});

t.test('a port can move from one Service to another in one go', async (t) => {
  const { servers, failures } = setup();
  const [one, two] = [await freePort(), await freePort()];
  const desired = (a: number, b: number) => [
    { service: 'x/a', family: 'IPv4' as const, port: a, localEndpoints: 1 },
    { service: 'x/b', family: 'IPv4' as const, port: b, localEndpoints: 1 },
  ];
  await servers.reconcile(desired(one, two));
  await servers.reconcile(desired(two, one));
  t.same(failures, []);
  t.match(await (await fetch(`http://127.0.0.1:${one}/`)).json(), { service: { name: 'b' } });
  await servers.reconcile(desired(two, one).slice(0, 1));
  t.same(servers.open(), desired(two, one).slice(0, 1));
});

t.test('what cannot be opened is told once, closed wholly, and opened by a later apply', async (t) => {
  const { servers, failures } = setup({ IPv4: ['127.0.0.1', '127.0.0.2'], IPv6: [] });
  const taken = await occupy(0, '127.0.0.2');
  const { port } = taken;
  servers.set('a/b', 'IPv4', { port, localEndpoints: 1 });
  await servers.apply();
  await servers.apply();
  t.match(failures, [{ service: 'a/b', family: 'IPv4', port, error: { code: 'EADDRINUSE' } }]);
  t.equal(failures.length, 1);
  t.match(servers.failed(), [{ service: 'a/b', port, message: /EADDRINUSE/ }]);
  t.ok(await refused(`http://127.0.0.1:${port}/`));
  await new Promise((resolve) => {
    taken.server.close(resolve);
  });
  await servers.apply();
  t.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 200);
  t.equal((await fetch(`http://127.0.0.2:${port}/`)).status, 200);
  t.same(servers.failed(), []);
});

t.test('match-all listens for one family only', { skip: noIPv6 }, async (t) => {
  const { servers } = setup({ IPv4: 'all', IPv6: 'all' });
  const port = await freePort();
  servers.set('a/b', 'IPv6', { port, localEndpoints: 1 });
  await servers.apply();
  t.equal((await fetch(`http://[::1]:${port}/`)).status, 200);
  t.ok(await refused(`http://127.0.0.1:${port}/`));
  servers.set('a/b', 'IPv4', { port, localEndpoints: 1 });
  await servers.apply();
  t.equal((await fetch(`http://127.0.0.2:${port}/`)).status, 200);
});

t.test('stop closes everything, what is asked for later stays closed', async (t) => {
  const { servers } = setup();
  const port = await freePort();
  servers.set('a/b', 'IPv4', { port, localEndpoints: 1 });
  await servers.apply();
  await servers.stop();
  servers.set('a/b', 'IPv4', { port, localEndpoints: 1 });
  await servers.apply();
  t.ok(await refused(`http://127.0.0.1:${port}/`));
});
