// Streams that are not what they should be.
import t from 'tap';
import { service, startComplete, until } from './harness.ts';

const requests = (h: Awaited<ReturnType<typeof startComplete>>) =>
  h.server.requests.filter((r) => r.resource === 'services');

for (const [name, bytes] of [
  ['a line that is not JSON', '<html>\n'],
  ['JSON that is no event', '{"kind":"Service"}\n'],
  ['a bookmark without version', '{"type":"BOOKMARK","object":{}}\n'],
] as const) {
  t.test(`${name} is logged, and the watch resumed`, async (t) => {
    const h = await startComplete(t, { objects: [service('a')] });
    h.server.sendRaw('services', bytes);
    await until('resumed', () => requests(h).length === 2);
    h.server.store.put(service('b'));
    await until('b', () => h.sink.calls.length === 1);
    t.equal(requests(h).at(-1)?.query.get('sendInitialEvents'), null, 'without a list');
    t.equal(h.log.count('warn Watch failed'), 1);
  });
}

t.test('garbage on and on is logged once a minute and slows down', async (t) => {
  const h = await startComplete(t, { objects: [service('a')] });
  for (let i = 1; i <= 5; i++) {
    await until('watched', () => requests(h).length === i && h.server.watchers('services') === 1);
    h.server.sendRaw('services', 'garbage\n');
  }
  await until('watched', () => requests(h).length === 6);
  t.equal(h.log.count('garbage'), 1);
  t.same(h.timers.waits, [200, 400, 800, 1600, 3200]);
});

t.test('half a line and a cut: the event comes again on the next watch', async (t) => {
  const h = await startComplete(t, { objects: [service('a')] });
  h.server.sendRaw('services', '{"type":"ADDED","object":{"metadata":{"name":"ha');
  h.server.dropWatches('end');
  h.server.store.put(service('half'));
  await until('half', () => h.sink.calls.length === 1);
  t.same(h.sink.calls, ['+Service default/half']);
});

t.test('chunks may cut characters and hold many lines', async (t) => {
  const h = await startComplete(t, { objects: [service('a')] });
  const line = (name: string, version: number) => {
    const object = {
      metadata: { name, namespace: 'default', resourceVersion: String(version) },
      spec: { externalName: 'Zürich–東京' },
    };
    return `${JSON.stringify({ type: 'ADDED', object })}\n`;
  };
  const bytes = Buffer.from(line('x', 100) + line('y', 101) + line('z', 102));
  for (let i = 0; i < bytes.length; i += 7) {
    h.server.sendRaw('services', bytes.subarray(i, i + 7));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await until('all', () => h.sink.calls.length === 3);
  t.match(h.sink.objects.get('Service default/z'), { spec: { externalName: 'Zürich–東京' } });
});
