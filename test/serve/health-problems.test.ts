// A watch that hangs and rules that are lost again and again are no health; idleness and outages are.
import t from 'tap';
import { LostRules, STALE_MS, silence, staleWatches, WrongRules } from '../../agent/serve/health-problems.ts';
import { healthAnswer, ProxyHealth, servesWell } from '../../agent/serve/proxy-health.ts';
import type { WatchStatus } from '../../agent/source/source.ts';
import { FakeClock } from '../support/fake-clock.ts';

const MINUTE = 60_000;

const WATCH: WatchStatus = {
  kind: 'EndpointSlice',
  source: 'https://192.0.2.1:6443',
  complete: true,
  optional: false,
  lastHeardMs: 0,
  silentMs: STALE_MS,
  outage: false,
  objects: 1,
  lastError: null,
  watches: 1,
  lists: 1,
};

t.test('which watches are stale', async (t) => {
  const stale = (change: Partial<WatchStatus>): string[] =>
    staleWatches([{ ...WATCH, ...change }]).map(({ message }) => message);
  t.strictSame(stale({}), ['watch of EndpointSlice: nothing heard for 1200 s']);
  t.match(stale({ lastError: 'status 403' }), [/1200 s: status 403$/], 'refused is stale too');
  t.strictSame(stale({ silentMs: STALE_MS - 1 }), [], 'not yet');
  t.strictSame(stale({ silentMs: null }), [], 'never heard: it is starting');
  t.strictSame(stale({ outage: true }), [], 'nobody is there to be heard');
  t.strictSame(stale({ kind: 'ServiceCIDR', optional: true }), [], 'done without');
  t.strictSame(silence([WATCH]), { EndpointSlice: { silentSeconds: 1200, outage: false } });
  t.ok(STALE_MS >= 1.5 * 630_000, 'well above the longest watch');
});

t.test('a stale watch fails both paths, lost rules only /healthz', async (t) => {
  const clock = new FakeClock(MINUTE);
  for (const [restartHelps, codes] of [
    [true, [503, 503]],
    [false, [503, 200]],
  ] as const) {
    let problems = [{ message: 'm', restartHelps }];
    const health = new ProxyHealth({ syncPeriodMs: 1000, clock, problems: () => problems });
    health.nodeUpdated({ deleting: false, taintKeys: [] });
    health.loopStarted('IPv4');
    const answers = (): number[] =>
      (['/healthz', '/livez'] as const).map((path) => healthAnswer(path, health.status(), clock.wallMs()).status);
    t.strictSame(answers(), codes);
    t.match(healthAnswer('/healthz', health.status(), clock.wallMs()).body, { healthy: true, problems: ['m'] });
    t.equal(servesWell(health.status()), false, 'health check node ports');
    problems = [];
    t.strictSame(answers(), [200, 200]);
    t.notOk('problems' in healthAnswer('/healthz', health.status(), clock.wallMs()).body, 'as kube-proxy says it');
  }
});

t.test('rules that are lost in 5 of 10 minutes', async (t) => {
  const clock = new FakeClock(1000 * MINUTE);
  const lost = new LostRules(clock);
  for (let i = 0; i < 100; i++) lost.repaired();
  t.strictSame(lost.problems(), [], 'a burst, as by the reload of a firewall');
  for (let minute = 0; minute < 3; minute++) {
    await clock.advance(MINUTE);
    lost.repaired();
  }
  t.strictSame(lost.problems(), [], '4 minutes');
  await clock.advance(MINUTE);
  lost.repaired();
  const message = 'rules are lost again and again: repaired in 5 of the last 10 minutes';
  t.strictSame(lost.problems(), [{ message, restartHelps: false }]);
  await clock.advance(5 * MINUTE);
  t.equal(lost.problems().length, 1, 'remembered');
  await clock.advance(MINUTE);
  t.strictSame(lost.problems(), [], 'until it has been quiet');
});

t.test('rules that cannot be repaired', async (t) => {
  const clock = new FakeClock(MINUTE);
  const wrong = new WrongRules(2000, clock);
  t.strictSame(wrong.problems(), []);
  wrong.set(true);
  await clock.advance(1999);
  wrong.set(true);
  t.strictSame(wrong.problems(), [], 'as long as a sync may take');
  await clock.advance(1);
  t.match(wrong.problems(), [{ message: /cannot be repaired/, restartHelps: true }]);
  wrong.set(false);
  t.strictSame(wrong.problems(), []);
});
