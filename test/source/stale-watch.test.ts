// What a watch tells of itself while it hears nothing: hanging differs from an outage (kubernetes/kubernetes#76338).
import t from 'tap';
import { STALE_MS, staleWatches } from '../../agent/serve/health-problems.ts';
import { service, startComplete, until } from './harness.ts';

const stale = (h: Awaited<ReturnType<typeof startComplete>>): string[] =>
  staleWatches(h.source.status())
    .map(({ message }) => message.replace(/ for .*/, ''))
    .sort();

t.test('a server that answers and then says nothing, for ever', async (t) => {
  const h = await startComplete(t, { objects: [service('a')] });
  t.strictSame(stale(h), []);
  // Each watch gets its headers and no more: it is ended for its silence, and the next one has the same fate.
  h.server.stallNext(1_000_000);
  h.server.dropWatches('cut');
  for (let minute = 0; minute < 25; minute++) {
    await h.timers.clock.advance(60_000);
    await until('a watch runs', () => h.server.requests.length > 4);
  }
  t.ok(h.status('Service').silentMs! >= STALE_MS);
  t.strictSame(stale(h), [
    'watch of EndpointSlice: nothing heard',
    'watch of Node: nothing heard',
    'watch of Service: nothing heard',
  ]);
});

t.test('a server that is gone is an outage, not a stale watch; bookmarks make a quiet watch a good one', async (t) => {
  const h = await startComplete(t, { objects: [service('a')] });
  const { port } = new URL(h.server.url);
  await h.server.close();
  await until('outage', () => h.source.status().every(({ outage }) => outage));
  await h.timers.clock.advance(3 * STALE_MS);
  t.strictSame(stale(h), []);
  t.ok(h.status('Service').silentMs! >= STALE_MS);
  await h.server.start(Number(port));
  await until('watched again', () => h.server.watchers('services') === 1);
  h.server.sendBookmark('services');
  await until('heard', () => h.status('Service').silentMs === 0);
  t.equal(h.status('Service').outage, false);
});
