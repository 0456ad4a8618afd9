import { createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import t from 'tap';
import { HealthServer, type HealthServerOptions } from '../../agent/serve/health-server.ts';
import { ProxyHealth } from '../../agent/serve/proxy-health.ts';
import { FakeClock } from '../support/fake-clock.ts';

const noIPv6 = networkInterfaces().lo?.some((a) => a.address === '::1') ? false : 'this host has no ::1';
const log = { error() {}, warn() {}, info() {}, debug() {} };

function healthy(clock: FakeClock): ProxyHealth {
  const health = new ProxyHealth({ syncPeriodMs: 1000, clock });
  health.loopStarted('IPv4');
  health.nodeUpdated({ deleting: false, taintKeys: [] });
  return health;
}

function serverOf(t: { teardown(fn: () => void): void }, options: Partial<HealthServerOptions> = {}) {
  const clock = new FakeClock();
  const health = healthy(clock);
  const server = new HealthServer({ ip: '127.0.0.1', port: 0, health, log, clock, ...options });
  t.teardown(() => server.stop());
  return { clock, health, server };
}

t.test('healthz and livez by any method, 404 for the rest', async (t) => {
  const answers: [string, number][] = [];
  const { server, health } = serverOf(t, { onAnswer: (path, status) => answers.push([path, status]) });
  const base = `http://127.0.0.1:${await server.start()}`;
  for (const method of ['GET', 'POST', 'DELETE']) {
    const response = await fetch(`${base}/healthz`, { method });
    t.equal(response.status, 200, method);
    t.equal(response.headers.get('content-type'), 'application/json');
    t.equal(response.headers.get('x-content-type-options'), 'nosniff');
    t.match(await response.json(), { healthy: true, nodeEligible: true, status: { IPv4: { healthy: true } } });
  }
  health.nodeUpdated({ deleting: true, taintKeys: [] });
  t.equal((await fetch(`${base}/healthz?verbose`)).status, 503);
  t.equal((await fetch(`${base}/livez`)).status, 200);
  for (const path of ['/', '/healthz/', '/metrics']) t.equal((await fetch(base + path)).status, 404, path);
  t.same(answers.slice(-2), [
    ['/healthz', 503],
    ['/livez', 200],
  ]);
});

t.test('further fields come last and replace none', async (t) => {
  const { server } = serverOf(t, { extra: () => ({ healthy: false, degraded: ['shop/web'] }) });
  const response = await fetch(`http://127.0.0.1:${await server.start()}/livez`);
  const text = await response.text();
  t.match(JSON.parse(text), { healthy: true, degraded: ['shop/web'] });
  t.ok(text.startsWith('{"lastUpdated":'));
});

t.test('an unspecified address of either family listens on both', { skip: noIPv6 }, async (t) => {
  for (const ip of ['0.0.0.0', '::']) {
    const { server } = serverOf(t, { ip });
    const port = await server.start();
    t.equal((await fetch(`http://127.0.0.1:${port}/livez`)).status, 200, `IPv4 with ${ip}`);
    t.equal((await fetch(`http://[::1]:${port}/livez`)).status, 200, `IPv6 with ${ip}`);
  }
});

t.test('a taken port is tried again every 5 s until it is free', async (t) => {
  const taken = createServer();
  await new Promise<void>((resolve) => {
    taken.listen(0, '127.0.0.1', resolve);
  });
  const port = (taken.address() as { port: number }).port;
  const failures: string[] = [];
  let tell = () => {};
  const { server, clock } = serverOf(t, {
    port,
    onListenFailure: (error) => {
      failures.push((error as NodeJS.ErrnoException).code ?? '');
      tell();
    },
  });
  t.equal(await server.start(), null);
  await clock.advance(4999);
  t.equal(failures.length, 1);
  const failedAgain = new Promise<void>((resolve) => {
    tell = resolve;
  });
  await clock.advance(1);
  await failedAgain;
  t.same(failures, ['EADDRINUSE', 'EADDRINUSE']);
  await new Promise((resolve) => {
    taken.close(resolve);
  });
  await clock.advance(5000);
  t.equal((await fetch(`http://127.0.0.1:${port}/livez`)).status, 200);
});

t.test('stop ends it, also between two tries', async (t) => {
  const { server, clock } = serverOf(t, { ip: '192.0.2.1' });
  t.equal(await server.start(), null);
  t.equal(clock.pendingTimers, 1);
  server.stop();
  t.equal(clock.pendingTimers, 0);
});
