// Interrupted watches go on where they were.
import t from 'tap';
import { type Harness, service, startComplete, until } from './harness.ts';

const last = ({ server }: Harness) => server.requests.filter((r) => r.resource === 'services').at(-1)?.query;

for (const how of ['end', 'cut'] as const) {
  t.test(`a watch ended by ${how} is resumed without a list, and nothing is lost`, async (t) => {
    const h = await startComplete(t, { objects: [service('a')] });
    const { server, sink } = h;
    server.store.put(service('b'));
    await until('b', () => sink.objects.has('Service default/b'));
    const version = String(server.store.version);
    server.dropWatches(how);
    server.store.put(service('c'));
    await until('c', () => sink.objects.has('Service default/c'));
    t.equal(last(h)?.get('resourceVersion'), version);
    t.equal(last(h)?.get('sendInitialEvents'), null);
    t.same(sink.calls, ['+Service default/b', '+Service default/c']);
  });
}

for (const [livedMs, waits] of [
  [1500, [200, 200, 200, 200]],
  [0, [200, 400, 800, 1600]],
] as const) {
  t.test(`watches that end with an error ${livedMs} ms after they brought something`, async (t) => {
    const { server, sink, timers } = await startComplete(t, { objects: [service('a')] });
    for (const i of waits.keys()) {
      server.store.put(service(`new-${i}`));
      await until('delivered', () => sink.calls.length === i + 1);
      await timers.clock.advance(livedMs);
      server.sendError('services', 500, 'InternalError');
      const watched = () => server.requests.filter((r) => r.resource === 'services').length === i + 2;
      await until('watched', () => watched() && server.watchers('services') === 1);
    }
    t.same(timers.waits, waits, 'they are failures only when they follow closely');
  });
}

t.test('bookmarks move the place to resume', async (t) => {
  const h = await startComplete(t, { objects: [service('a')] });
  h.server.store.put({ kind: 'Node', metadata: { name: 'elsewhere' } });
  const version = h.server.store.version;
  h.server.sendBookmark('services');
  h.server.store.put(service('b'));
  await until('b', () => h.sink.objects.size === 2);
  h.server.store.put({ kind: 'Node', metadata: { name: 'elsewhere-2' } });
  h.server.sendBookmark('services');
  h.server.dropWatches('end');
  await until('resumed', () => h.server.requests.filter((r) => r.resource === 'services').length === 2);
  t.equal(last(h)?.get('resourceVersion'), String(version + 2));
});

t.test('an unreachable server leaves everything as it is; afterwards the difference is delivered', async (t) => {
  const h = await startComplete(t, { objects: [service('a'), service('b')] });
  const { server, sink, status } = h;
  server.failNext(
    ...Array.from({ length: 6 }, () => ({ status: 503, when: (r: { resource: string }) => r.resource === 'services' })),
  );
  server.dropWatches('cut');
  server.store.delete('Service', 'default', 'b');
  await until('failing', () => status('Service').lastError !== null);
  await until('resumed', () => sink.calls.length > 0);
  t.same(sink.calls, ['-Service default/b']);
  t.equal(status('Service').lastError, null, 'the error is over');
});

t.test('the first initial list may be cut, too', async (t) => {
  const h = await startComplete(t, {
    objects: [service('a')],
    prepare: (server) => server.failNext({ status: 500 }, { status: 500 }, { status: 429 }),
  });
  t.equal(h.sink.objects.size, 1);
  t.equal(h.status('Service').complete, true);
});
