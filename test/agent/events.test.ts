// Events on the API (P-70): their form, series, retries, limits. No agent runs.
import t from 'tap';
import { Events } from '../../agent/events.ts';
import type { KubeRequest } from '../../agent/source/kube-client.ts';
import { FakeClock } from '../support/fake-clock.ts';

const NOW = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

type Answer = number | Error;

function start(answers: Answer[] = []) {
  const clock = new FakeClock(NOW);
  const sent: (Pick<KubeRequest, 'path'> & { method: string; body: Record<string, unknown> })[] = [];
  const warnings: string[] = [];
  const client = {
    send: async ({ method = 'GET', path, body }: KubeRequest) => {
      sent.push({ method, path, body: body as Record<string, unknown> });
      const answer = answers.shift() ?? 201;
      if (answer instanceof Error) throw answer;
      async function* chunks() {
        yield Buffer.from('because');
      }
      return { status: answer, headers: {}, body: chunks() };
    },
  };
  const log = { error() {}, info() {}, debug() {}, warn: (msg: string) => void warnings.push(msg) };
  const events = new Events({ client, nodeName: 'node-0', hostName: 'machine-0', log, clock });
  return { clock, events, sent, warnings };
}

t.test('as kube-proxy writes them', async (t) => {
  const { clock, events, sent, warnings } = start();
  events.node('Normal', 'Starting', '');
  events.healthCheckFailed({ service: 'shop/web', port: 30_100, error: new Error('listen EADDRINUSE') });
  await clock.advance(0);
  const [first, second] = sent;
  t.match(first, { method: 'POST', path: '/apis/events.k8s.io/v1/namespaces/default/events' });
  const { metadata, ...rest } = first!.body as { metadata: { name: string } };
  t.same(rest, {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    eventTime: '2026-01-02T03:04:05.678000Z',
    reportingController: 'kube-proxy',
    reportingInstance: 'kube-proxy-machine-0',
    regarding: { apiVersion: 'v1', kind: 'Node', name: 'node-0', uid: 'node-0' },
    type: 'Normal',
    reason: 'Starting',
    action: 'StartKubeProxy',
    note: '',
  });
  t.match(metadata, { name: /^node-0\.[0-9a-f]{16}$/, namespace: 'default' });
  t.match(second, {
    path: '/apis/events.k8s.io/v1/namespaces/shop/events',
    body: {
      metadata: { namespace: 'shop' },
      type: 'Warning',
      reason: 'FailedToStartServiceHealthcheck',
      action: 'Listen',
      regarding: { kind: 'Service', namespace: 'shop', name: 'web', uid: 'shop/web' },
      note: 'node node-0 failed to start healthcheck "shop/web" on port 30100: listen EADDRINUSE',
    },
  });
  t.same(warnings, []);
});

t.test('what is repeated becomes a series, told every five minutes', async (t) => {
  const answers: Answer[] = [];
  const { clock, events, sent } = start(answers);
  const fail = () => events.node('Warning', 'FailedToStartMetricServer', 'EADDRINUSE');
  for (let i = 0; i < 3; i++) fail();
  await clock.advance(0);
  t.equal(sent.length, 1);
  await clock.advance(300_000);
  fail();
  await clock.advance(0);
  const { name } = sent[0]!.body.metadata as { name: string };
  // The rights that daemonset.yaml gives are to create and to patch.
  t.same(sent[1], {
    method: 'PATCH',
    path: `/apis/events.k8s.io/v1/namespaces/default/events/${name}`,
    body: { series: { count: 4, lastObservedTime: '2026-01-02T03:09:05.678000Z' } },
  });
  answers.push(404);
  await clock.advance(300_000);
  fail();
  await clock.advance(0);
  t.same(
    sent.slice(2).map(({ method }) => method),
    ['PATCH', 'POST'],
    'one that has expired is written anew',
  );
  fail();
  await clock.advance(0);
  t.equal(sent.length, 4);
});

t.test('a server that is away is tried again, one that refuses is not', async (t) => {
  const answers: Answer[] = [new Error('ECONNREFUSED'), 503, 429, 201, 403];
  const { clock, events, sent, warnings } = start(answers);
  events.node('Normal', 'Starting', '');
  await clock.advance(29_999);
  t.equal(sent.length, 3);
  await clock.advance(1);
  t.equal(sent.length, 4);
  t.same(warnings, []);
  events.node('Warning', 'IPVSDeprecation', 'deprecated');
  await clock.advance(60_000);
  t.equal(sent.length, 5, 'it was refused once');
  t.same(warnings, ['cannot write an event']);

  const away = start(Array.from({ length: 20 }, () => new Error('ECONNREFUSED')));
  away.events.node('Normal', 'Starting', '');
  await away.clock.advance(1_000_000);
  t.equal(away.sent.length, 12, 'given up in the end');
  t.same(away.warnings, ['cannot write an event']);
});

t.test('one that was written although the answer was lost is no failure', async (t) => {
  const { clock, events, sent, warnings } = start([new Error('ECONNRESET'), 409]);
  events.node('Normal', 'Starting', '');
  await clock.advance(60_000);
  t.equal(sent.length, 2);
  t.same(warnings, []);
});

t.test('nodes that write about one Service in the same millisecond take different names', async (t) => {
  const nameOf = async (monotonicMs: number): Promise<unknown> => {
    const { clock, events, sent } = start();
    clock.monotonicMs = () => monotonicMs;
    events.healthCheckFailed({ service: 'shop/web', port: 30_100, error: new Error('no') });
    await clock.advance(0);
    return (sent[0]!.body.metadata as { name: string }).name;
  };
  t.not(await nameOf(1000.25), await nameOf(7.125));
});

t.test('no more than 25 different ones at once', async (t) => {
  const { clock, events, sent } = start();
  for (let port = 1; port <= 60; port++)
    events.healthCheckFailed({ service: 'shop/web', port, error: new Error('no') });
  await clock.advance(0);
  t.equal(sent.length, 25);
  await clock.advance(600_000);
  for (let port = 60; port <= 70; port++)
    events.healthCheckFailed({ service: 'shop/web', port, error: new Error('no') });
  await clock.advance(0);
  t.equal(sent.length, 27, 'one more every five minutes');
});

t.test('settled waits for what is under way, but not for long', async (t) => {
  const answers: Answer[] = [];
  const { clock, events } = start(answers);
  events.node('Normal', 'Starting', '');
  await events.settled(3000);
  t.equal(clock.pendingTimers, 0);
  answers.push(new Error('ECONNREFUSED'));
  events.node('Warning', 'FailedToStartMetricServer', 'EADDRINUSE');
  let settled = false;
  const waiting = events.settled(3000).then(() => {
    settled = true;
  });
  await clock.advance(2999);
  t.notOk(settled);
  await clock.advance(1);
  await waiting;
  t.ok(settled);
});

t.test('without an API server, or stopped, nothing is written', async (t) => {
  const log = { error() {}, info() {}, debug() {}, warn() {} };
  const none = new Events({ client: null, nodeName: 'node-0', hostName: 'm', log, clock: new FakeClock() });
  none.node('Normal', 'Starting', '');
  await none.settled(1);
  const { clock, events, sent } = start([new Error('ECONNREFUSED')]);
  events.node('Normal', 'Starting', '');
  await clock.advance(0);
  events.stop();
  events.node('Warning', 'IPVSDeprecation', 'deprecated');
  await clock.advance(60_000);
  t.equal(sent.length, 1);
});
