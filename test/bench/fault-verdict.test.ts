// What the soak with faults takes for a leak, and for a relist storm.
import t from 'tap';
import { countRequests, growth, memoryCriterion, requestCriteria } from '../../bench/fault-verdict.ts';
import type { AskedRequest } from '../support/api-server-process.ts';

const asked = (...requests: readonly (readonly [number, AskedRequest['what']])[]): AskedRequest[] =>
  requests.map(([atMs, what]) => ({ atMs, what, kind: 'services' }));

t.test('memory: medians of the first and the last quarter', async (t) => {
  const samples = [10, 500, 10, 50, 50, 60, 60, 60, 11, 11, 900].map((value, i) => ({ atMs: i * 10, value }));
  t.match(growth(samples, 0, 100), { first: 10, last: 11 });
  t.equal(memoryCriterion(samples, 0, 100).holds, true, 'ten per cent are allowed');
  const leak = [100, 100, 105, 108, 111, 111].map((value, i) => ({ atMs: i, value }));
  t.equal(memoryCriterion(leak, 0, 5).holds, false);
  t.equal(memoryCriterion([], 0, 5).holds, false, 'no samples show nothing');
});

t.test('requests: watches that continue, lists with a reason', async (t) => {
  const requests = asked(
    [0, 'list'],
    [5100, 'watch'],
    [10_100, 'expired'],
    [10_900, 'list'],
    [15_100, 'watch'],
    [20_100, 'watch'],
  );
  const interruptions = [5000, 10_000, 15_000, 20_000];
  t.same(countRequests(requests, interruptions).services, { lists: 2, watches: 3, expired: 1, bound: 6, needless: 0 });
  t.match(requestCriteria(requests, interruptions, ['services']), [{ holds: true }]);
});

t.test('a list that was interrupted may be asked for again', async (t) => {
  t.match(countRequests(asked([0, 'list'], [1700, 'list'], [6000, 'watch']), [1500, 5900]), {
    services: { needless: 0 },
  });
});

t.test('a list after each cut is a storm', async (t) => {
  const requests = asked([0, 'list'], [5200, 'list'], [10_200, 'list'], [15_200, 'watch'], [20_200, 'list']);
  const interruptions = [5000, 10_000, 15_000, 20_000];
  t.match(countRequests(requests, interruptions), { services: { needless: 3 } });
  t.match(requestCriteria(requests, interruptions, ['services']), [{ holds: false }]);
});

t.test('more requests than interruptions are too many', async (t) => {
  const requests = asked([0, 'list'], [5100, 'watch'], [5300, 'watch'], [5500, 'watch']);
  t.match(requestCriteria(requests, [5000], ['services']), [{ holds: false }]);
});

t.test('a kind that nobody asked for shows nothing', async (t) => {
  t.match(requestCriteria(asked([0, 'list'], [5100, 'watch'], [9000, 'watch']), [5000, 8900], ['nodes']), [
    { holds: false },
  ]);
});
