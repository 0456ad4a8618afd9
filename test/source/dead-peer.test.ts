// Connections on which nothing arrives any more.
import t from 'tap';
import { service, startComplete, startHarness, until } from './harness.ts';

t.test('headers without objects at the start lead to a list by pages after 10 s', async (t) => {
  const h = await startHarness(t, { objects: [service('a')], prepare: (server) => server.stallNext(4) });
  await until('stalled', () => h.server.requests.length === 4);
  await until('headers seen', () => h.timers.clock.pendingTimers === 4);
  await new Promise((resolve) => setTimeout(resolve, 20));
  await h.timers.clock.advance(10_000);
  await until('complete', () => h.source.status().every((s) => s.complete));
  t.equal(h.sink.objects.size, 1);
});

t.test('without bookmarks a silent watch lives until its timeout and 30 s more', async (t) => {
  const h = await startComplete(t, { objects: [service('a')] });
  await h.timers.clock.advance(329_999);
  t.equal(h.server.requests.length, 4);
  await h.timers.clock.advance(1);
  await until('all again', () => h.server.requests.length === 8);
  t.match(h.log.lines.join('\n'), /nothing received for 330 s/);
});

t.test('once bookmarks come, three minutes of silence are too much', async (t) => {
  const h = await startComplete(t, { objects: [service('a')] });
  h.server.sendBookmark('services');
  h.server.store.put(service('b'));
  await until('b', () => h.sink.calls.length === 1);
  await h.timers.clock.advance(180_000);
  await until('resumed', () => h.server.requests.length === 5);
  t.equal(h.server.requests.at(-1)?.resource, 'services');
  t.ok(h.server.requests.at(-1)?.query.has('resourceVersion'), 'without a list');
});

t.test('events keep a watch alive', async (t) => {
  const h = await startComplete(t, { objects: [service('a')] });
  h.server.sendBookmark('services');
  for (let i = 0; i < 4; i++) {
    h.server.store.put(service(`s-${i}`));
    await until('the event', () => h.sink.calls.length === i + 1);
    await h.timers.clock.advance(100_000);
  }
  t.equal(h.server.requests.filter((r) => r.resource === 'services').length, 1);
});
