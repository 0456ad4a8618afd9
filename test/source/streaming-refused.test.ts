// Servers without streaming lists.
import t from 'tap';
import { service, startComplete, startHarness, until } from './harness.ts';

const MANY = Array.from({ length: 1201 }, (_, i) => service(`s-${i}`));

for (const [name, pages, lists] of [
  ['pages of 500', true, ['0 500 -', '- 500 c', '- 500 c']],
  ['whole lists whatever the limit', false, ['0 500 -']],
] as const) {
  t.test(`a server that refuses and sends ${name} is listed, then watched`, async (t) => {
    const { server, sink } = await startComplete(t, { streamingList: 'refuse', pages, objects: MANY });
    t.equal(sink.objects.size, 1201);
    const requests = server.requests.filter((r) => r.resource === 'services' && !r.watch);
    t.same(
      requests.map(
        ({ query }) =>
          `${query.get('resourceVersion') ?? '-'} ${query.get('limit')} ${query.has('continue') ? 'c' : '-'}`,
      ),
      lists,
    );
    server.store.put(service('s-1', { marker: 'new' }));
    await until('the change', () => sink.calls.length === 1);
    const watch = server.requests.filter((r) => r.resource === 'services').at(-1);
    t.equal(watch?.query.get('sendInitialEvents'), null);
    t.equal(watch?.query.get('resourceVersion'), '1202');
  });
}

t.test('a server that sends objects but never their end is given 10 s', async (t) => {
  const { server, sink, timers, source } = await startHarness(t, { streamingList: 'ignore', objects: [service('a')] });
  await until('the object', () => sink.objects.size === 1);
  await until('all watches', () =>
    ['nodes', 'servicecidrs', 'endpointslices'].every((r) => server.watchers(r as 'nodes') > 0),
  );
  await timers.clock.advance(9_999);
  t.notOk(sink.calls.includes('=Service'));
  await timers.clock.advance(1);
  await until('complete', () => source.status().every((s) => s.complete));
  t.same(sink.take('Service'), ['+Service default/a', '=Service'], 'the object is not delivered twice');
});

t.test('a bookmark without the mark of the end tells it at once', async (t) => {
  const { server, sink } = await startHarness(t, { streamingList: 'ignore', objects: [service('a')] });
  await until('the watch', () => server.watchers('services') === 1);
  server.sendBookmark('services');
  await until('complete', () => sink.calls.includes('=Service'));
  t.same(sink.take('Service'), ['+Service default/a', '=Service']);
});

t.test('410 between pages starts the list over', async (t) => {
  const { server, sink, timers } = await startComplete(t, {
    streamingList: 'refuse',
    objects: MANY,
    prepare: (server) => server.failNext({ status: 410, when: ({ query }) => query.has('continue') }),
  });
  const pages = server.requests
    .filter((r) => r.resource === 'services' && !r.watch)
    .map((r) => r.query.has('continue'));
  t.same(pages, [false, true, false, true, true]);
  t.equal(sink.objects.size, 1201);
  t.equal(timers.waits.length, 0);
});
