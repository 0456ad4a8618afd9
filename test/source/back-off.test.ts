// How long a source waits after failures.
import t from 'tap';
import { BackOff } from '../../agent/source/back-off.ts';
import { parseRetryAfter } from '../../agent/source/kube-client.ts';
import { service, startComplete, until } from './harness.ts';

t.test('waits double from 0.2 s to 30 s and begin anew after a success', (t) => {
  const backOff = new BackOff({ random: () => 0 });
  const waits = Array.from({ length: 9 }, () => backOff.next());
  t.same(waits, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]);
  backOff.reset();
  t.equal(backOff.next(), 200);
  t.end();
});

t.test('chance shortens a wait by up to a half, but not below 0.2 s', (t) => {
  const backOff = new BackOff({ random: () => 0.999 });
  const waits = Array.from({ length: 12 }, () => Math.round(backOff.next()));
  t.same(waits.slice(0, 3), [200, 200, 400]);
  t.equal(waits.at(-1), 15_015);
  t.end();
});

t.test('Retry-After is seconds or a date, at most five minutes', (t) => {
  const now = Date.parse('2026-11-21T12:00:00Z');
  for (const [header, ms] of [
    ['7', 7000],
    ['Sat, 21 Nov 2026 12:00:09 GMT', 9000],
    ['Sat, 21 Nov 2026 11:00:00 GMT', 0],
    ['86400', 300_000],
    ['soon', 0],
    [undefined, 0],
  ] as const) {
    t.equal(parseRetryAfter(header, now), ms, String(header));
  }
  t.end();
});

const services = (r: { resource: string }) => r.resource === 'services';

for (const status of [429, 503]) {
  t.test(`Retry-After of a ${status} is honoured`, async (t) => {
    const h = await startComplete(t, {
      objects: [service('a')],
      prepare: (server, timers) => {
        timers.alsoAtOnce.add(7000);
        server.failNext({ status, retryAfter: '7', when: services });
        server.failNext({ status, retryAfter: '7', when: services });
      },
    });
    h.server.failNext({ status, retryAfter: '7', when: services });
    h.server.dropWatches('end');
    await until('waited', () => h.timers.waits.includes(7000));
    await until('resumed', () => h.server.watchers('services') === 1);
    t.equal(h.sink.objects.size, 1);
  });
}

for (const status of [401, 403, 404, 500]) {
  t.test(`${status} is retried with growing waits, and reported`, async (t) => {
    const h = await startComplete(t, { objects: [service('a')] });
    const errors: (string | null)[] = [];
    h.server.failNext(...Array.from({ length: 3 }, () => ({ status, when: services })));
    h.server.dropWatches('cut');
    await until('failing', () => {
      errors.push(h.status('Service').lastError);
      return h.server.watchers('services') === 1;
    });
    t.ok(errors.some((e) => e?.startsWith(`GET /api/v1/services: ${status} Test failure on demand`)));
    t.ok(h.timers.waits.includes(800), 'the third failure waits longer');
    h.server.store.put(service('b'));
    await until('b', () => h.sink.calls.length === 1);
    t.equal(h.status('Service').lastError, null);
  });
}
