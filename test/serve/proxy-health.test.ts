import t from 'tap';
import { healthAnswer, ProxyHealth } from '../../agent/serve/proxy-health.ts';
import { FakeClock } from '../support/fake-clock.ts';

const NODE = { deleting: false, taintKeys: [] };

t.test('body of a 200: lastUpdated is now', async (t) => {
  const clock = new FakeClock(Date.UTC(2026, 0, 2, 3, 4, 5, 678));
  const health = new ProxyHealth({ syncPeriodMs: 30_000, clock });
  health.nodeUpdated(NODE);
  health.loopStarted('IPv4');
  await clock.advance(1000);
  const { status, body } = healthAnswer('/healthz', health.status(), clock.wallMs());
  t.equal(status, 200);
  t.equal(
    JSON.stringify(body),
    '{"lastUpdated":"2026-01-02T03:04:06.678Z","currentTime":"2026-01-02T03:04:06.678Z","nodeEligible":true,' +
      '"healthy":true,"status":{"IPv4":{"lastUpdated":"2026-01-02T03:04:05.678Z","healthy":true}}}',
  );
});

t.test('body of a 503: lastUpdated is that of the newest family, /livez has no nodeEligible', async (t) => {
  const clock = new FakeClock();
  const health = new ProxyHealth({ syncPeriodMs: 1000, clock });
  health.nodeUpdated(NODE);
  health.loopStarted('IPv4');
  await clock.advance(500);
  health.loopStarted('IPv6');
  health.syncRequested('IPv4');
  await clock.advance(2000);
  const { status, body } = healthAnswer('/livez', health.status(), clock.wallMs());
  t.equal(status, 503);
  t.same(body, {
    lastUpdated: '1970-01-01T00:00:00.500Z',
    currentTime: '1970-01-01T00:00:02.500Z',
    healthy: false,
    status: {
      IPv4: { lastUpdated: '1970-01-01T00:00:00.000Z', healthy: false },
      IPv6: { lastUpdated: '1970-01-01T00:00:00.500Z', healthy: true },
    },
  });
});

t.test('without any family: no status; not eligible gives the zero time', async (t) => {
  const clock = new FakeClock();
  const health = new ProxyHealth({ syncPeriodMs: 1000, clock });
  t.same(healthAnswer('/healthz', health.status(), 0), {
    status: 503,
    body: {
      lastUpdated: '0001-01-01T00:00:00Z',
      currentTime: '1970-01-01T00:00:00.000Z',
      nodeEligible: false,
      healthy: true,
    },
  });
});

t.test('a jump of the wall clock does not make it unhealthy', async (t) => {
  let wall = 0;
  const clock = { wallMs: () => wall, monotonicMs: () => 0, after: () => () => {} };
  const health = new ProxyHealth({ syncPeriodMs: 1000, clock });
  health.loopStarted('IPv4');
  health.syncRequested('IPv4');
  wall = 1e9;
  t.ok(health.status().healthy);
});
