// The metrics server over HTTP (P-75, P-76), its listener, and what profiling adds.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { Writable } from 'node:stream';
import t, { type Test } from 'tap';
import { toV1alpha1 } from '../../agent/config/document-text.ts';
import { loadConfig } from '../../agent/config/load.ts';
import { createLog } from '../../agent/log.ts';
import { flagzText, statuszText } from '../../agent/serve/debug-pages.ts';
import { MetricsServer, type MetricsServerOptions } from '../../agent/serve/metrics-server.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { feed, metricsOf } from '../support/metrics.ts';

const log = { error() {}, warn() {}, info() {}, debug() {} };
const TEXT = 'text/plain; charset=utf-8';

async function serve(t: Test, options: Partial<MetricsServerOptions> = {}) {
  const metrics = metricsOf('nftables');
  feed(metrics);
  const clock = new FakeClock(1_000_000);
  const server = new MetricsServer({
    ip: '127.0.0.1',
    port: 0,
    mode: 'nftables',
    metrics,
    configz: { kind: 'KubeProxyConfiguration' },
    flagz: null,
    statusz: null,
    profiling: null,
    log,
    clock,
    ...options,
  });
  t.teardown(() => server.stop());
  const port = await server.start();
  return { server, clock, base: `http://127.0.0.1:${port}`, port };
}

async function ask(url: string, init?: RequestInit) {
  const response = await fetch(url, init);
  return {
    status: response.status,
    type: response.headers.get('content-type'),
    sniff: response.headers.get('x-content-type-options'),
    headers: response.headers,
    body: await response.text(),
  };
}

t.test('its paths, as kube-proxy answers them', async (t) => {
  const { base } = await serve(t);
  const nosniff = 'nosniff';
  const answers: [string, object][] = [
    ['/healthz', { status: 200, type: TEXT, sniff: nosniff, body: 'ok' }],
    ['/healthz?verbose', { status: 200, type: TEXT, sniff: nosniff, body: '[+]ping ok\nhealthz check passed\n' }],
    ['/healthz/ping', { status: 200, type: TEXT, sniff: null, body: 'ok' }],
    ['/proxyMode', { status: 200, type: TEXT, sniff: nosniff, body: 'nftables' }],
    ['/configz', { status: 200, type: 'application/json', sniff: nosniff }],
    ['/', { status: 404, type: TEXT, sniff: nosniff, body: '404 page not found\n' }],
    ['/proxymode', { status: 404 }],
    ['/metrics/', { status: 404 }],
    ['/flagz', { status: 404 }],
    ['/statusz', { status: 404 }],
    ['/debug/flags/v', { status: 404 }],
    ['/debug/pprof/', { status: 404 }],
  ];
  for (const [path, wanted] of answers) t.match(await ask(base + path), wanted, path);
  t.match(await ask(`${base}/proxyMode`, { method: 'POST' }), { status: 200, body: 'nftables' }, 'by any method');
  t.same(JSON.parse((await ask(`${base}/configz`)).body), {
    'kubeproxy.config.k8s.io': { kind: 'KubeProxyConfiguration' },
  });
});

t.test('metrics, compressed for those who ask for it', async (t) => {
  const { base } = await serve(t);
  for (const encoding of ['gzip', 'identity', 'gzip;q=0']) {
    const answer = await ask(`${base}/metrics`, { headers: { 'accept-encoding': encoding } });
    t.equal(answer.type, 'text/plain; version=0.0.4; charset=utf-8');
    t.equal(answer.headers.get('content-encoding'), encoding === 'gzip' ? 'gzip' : null, encoding);
    t.match(answer.headers.get('process-start-time-unix') ?? '', /^\d{10}$/);
    t.match(answer.body, /^kubeproxy_sync_proxy_rules_duration_seconds_count\{ip_family="IPv4"\} 2$/m);
  }
  t.match((await ask(`${base}/metrics/slis`)).body, /^process_start_time_seconds \d+/m);
  const broken = { exposition: () => Promise.reject(new Error('no memory')), slis: () => Promise.reject(new Error()) };
  const other = await serve(t, { metrics: broken });
  t.match(await ask(`${other.base}/metrics`), { status: 500, body: /no memory/ });
  t.match(await ask(`${other.base}/healthz`), { status: 200 }, 'and the server goes on');
});

t.test('the configuration equals what kube-proxy 1.36 tells of the same file', async (t) => {
  for (const name of ['kubeadm', 'nftables']) {
    const file = (suffix: string): string =>
      readFileSync(new URL(`../fixtures/configz/${name}.${suffix}`, import.meta.url), 'utf8');
    const loaded = loadConfig({ argv: ['--config=file'], readFile: () => file('yaml') });
    if (loaded.action !== 'run') throw new Error('not loaded');
    const { base } = await serve(t, { configz: toV1alpha1(loaded.config.document) });
    t.same(JSON.parse((await ask(`${base}/configz`)).body), JSON.parse(file('json')), name);
  }
});

t.test('flagz and statusz', async (t) => {
  const { base } = await serve(t, {
    flagz: () =>
      flagzText([
        { name: 'proxy-mode', value: 'nftables' },
        { name: 'masquerade-all', value: true },
      ]),
    statusz: (nowMs, paths) => statuszText({ version: '1.2.3', startedMs: nowMs - 3_725_000, nowMs, paths }),
  });
  t.match(await ask(`${base}/flagz`), {
    status: 200,
    type: TEXT,
    body: /\nmasquerade-all:true\nproxy-mode:nftables\n$/,
  });
  const { body } = await ask(`${base}/statusz`);
  t.match(body, /^Up {2}1 hr 2 min 5 sec$/m);
  t.match(body, /^Binary version {2}1\.2\.3$/m);
  t.match(
    body,
    /^Paths {2}\/configz \/flagz \/healthz \/healthz\/ping \/metrics \/metrics\/slis \/proxyMode \/statusz$/m,
  );
});

t.test('the log level can be changed', async (t) => {
  const lines: string[] = [];
  const stream = new Writable({
    write(line, _, done) {
      lines.push(String(line));
      done();
    },
  });
  const own = createLog({ stream });
  const { base } = await serve(t, { profiling: { setVerbosity: (v) => own.setVerbosity(v) } });
  const put = (body: string) => ask(`${base}/debug/flags/v`, { method: 'PUT', body });
  own.debug('not shown');
  t.match(await put('5'), { status: 200, body: 'successfully set klog.logging.verbosity to 5\n' });
  own.debug('shown');
  t.match(await put('0'), { status: 200 });
  own.debug('not shown');
  for (const wrong of ['x', '', '-1', '1.5']) t.match(await put(wrong), { status: 400 }, wrong);
  t.match(await ask(`${base}/debug/flags/v`), { status: 406, body: 'unsupported http method\n' });
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(lines.filter((line) => line.includes('shown')).length, 1);
  t.match(lines.join(''), /"shown"/);
});

t.test('CPU profiles, one at a time', async (t) => {
  let finish = (_: string): void => {};
  const asked: number[] = [];
  const cpuProfile = (seconds: number): Promise<string> => {
    asked.push(seconds);
    return new Promise((resolve) => {
      finish = resolve;
    });
  };
  const { base } = await serve(t, { profiling: { setVerbosity() {}, cpuProfile } });
  const first = ask(`${base}/debug/pprof/profile?seconds=2`);
  while (asked.length === 0) await new Promise((resolve) => setImmediate(resolve));
  t.match(await ask(`${base}/debug/pprof/profile`), { status: 409 });
  finish('{"nodes":[]}');
  t.match(await first, { status: 200, type: 'application/json', body: '{"nodes":[]}' });
  for (const wrong of ['0', '-1', '301', 'x']) {
    t.match(await ask(`${base}/debug/pprof/profile?seconds=${wrong}`), { status: 400 }, wrong);
  }
  t.same(asked, [2]);
  t.match(await ask(`${base}/debug/pprof/`), { status: 200, body: /no counterpart/ });
  t.match(await ask(`${base}/debug/pprof/heap`), { status: 404 });

  const real = await serve(t, { profiling: { setVerbosity() {} } });
  const { status, body } = await ask(`${real.base}/debug/pprof/profile?seconds=0.05`);
  t.equal(status, 200);
  t.ok(JSON.parse(body).nodes.length > 0, 'a profile of this process');
});

t.test('a taken port is tried again every 5 s, and reported', async (t) => {
  const taken = createServer();
  await new Promise<void>((resolve) => {
    taken.listen(0, '127.0.0.1', resolve);
  });
  const { port } = taken.address() as { port: number };
  const failures: string[] = [];
  const { clock, port: bound } = await serve(t, {
    port,
    onListenFailure: (error) => failures.push((error as NodeJS.ErrnoException).code ?? ''),
  });
  t.equal(bound, null);
  t.same(failures, ['EADDRINUSE']);
  await new Promise((resolve) => {
    taken.close(resolve);
  });
  await clock.advance(4999);
  await t.rejects(fetch(`http://127.0.0.1:${port}/healthz`));
  await clock.advance(1);
  t.match(await ask(`http://127.0.0.1:${port}/healthz`), { status: 200 });
});
