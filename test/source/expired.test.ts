// When a watch cannot be continued, objects are listed again and only the difference is delivered.
import t from 'tap';
import type { SeenRequest } from '../support/api-server.ts';
import { type Harness, type HarnessOptions, service, startComplete, until } from './harness.ts';

const OBJECTS = [service('same'), service('changed'), service('gone')];

/** Changes the objects behind the back of the watch. */
async function changeUnseen({ server, sink }: Harness): Promise<void> {
  // The watches are cut first, and the history is forgotten before they come back.
  server.dropWatches('cut');
  server.store.put(service('changed', { marker: 'new' }));
  server.store.put(service('new'));
  server.store.delete('Service', 'default', 'gone');
  server.store.compact();
  await until('the difference', () => sink.calls.length >= 3);
}

const DIFFERENCE = ['+Service default/changed', '+Service default/new', '-Service default/gone'];

for (const streamingList of ['serve', 'refuse'] as const) {
  const options: HarnessOptions = { streamingList, objects: OBJECTS };
  const name = streamingList === 'serve' ? 'streaming list' : 'list by pages';

  t.test(`410 inside the stream, ${name}`, async (t) => {
    const h = await startComplete(t, options);
    await changeUnseen(h);
    t.same(h.sink.take('Service').sort(), DIFFERENCE.sort());
    t.equal(h.status('Service').complete, true);
    const list = h.server.requests
      .filter((r) => r.resource === 'services' && (!r.watch || r.query.has('sendInitialEvents')))
      .at(-1);
    t.equal(list?.query.get('resourceVersion') ?? null, null, 'the new list is not content with a cache');
  });

  t.test(`410 as the answer, ${name}`, async (t) => {
    const h = await startComplete(t, options);
    h.server.failNext({ status: 410, when: (r) => r.resource === 'services' });
    await changeUnseen(h);
    t.same(h.sink.take('Service').sort(), DIFFERENCE.sort());
  });
}

t.test('an ERROR event of another kind resumes', async (t) => {
  const { server, sink } = await startComplete(t, { objects: OBJECTS });
  server.sendError('services', 500, 'InternalError');
  await until('resumed', () => server.requests.filter((r) => r.resource === 'services').length === 2);
  t.ok(server.requests.at(-1)?.query.has('resourceVersion'));
  server.store.put(service('new'));
  await until('new', () => sink.calls.length === 1);
});

t.test('410 again and again slows the lists down; one after an outage does not wait longer for it', async (t) => {
  const { server, timers } = await startComplete(t, { objects: OBJECTS });
  const requests = () => server.requests.filter((r) => r.resource === 'services').length;
  const outage = (n: number) =>
    Array.from({ length: n }, () => ({ status: 503, when: (r: SeenRequest) => r.resource === 'services' }));
  server.failNext(...outage(4), { status: 410, when: (r) => r.resource === 'services' });
  server.sendError('services', 500, 'InternalError');
  await until('listed', () => requests() === 7 && server.watchers('services') === 1);
  t.same(timers.waits, [200, 400, 800, 1600, 3200, 200]);
  for (let i = 1; i <= 3; i++) {
    server.sendError('services', 410, 'Expired');
    await until('listed', () => requests() === 7 + i && server.watchers('services') === 1);
  }
  t.same(timers.waits.slice(6), [400, 800, 1600]);
});

t.test('a list from which short watches continued for a while does not slow down the next', async (t) => {
  const { server, sink, timers } = await startComplete(t, { objects: OBJECTS });
  const watched = (n: number) =>
    until('watched', () => {
      const requests = server.requests.filter((r) => r.resource === 'services').length;
      return requests === n && server.watchers('services') === 1;
    });
  for (let i = 0; i < 3; i++) {
    for (const [j, code] of [500, 410].entries()) {
      server.store.put(service(`new-${i}-${j}`));
      await until('delivered', () => sink.calls.length === 2 * i + j + 1);
      await timers.clock.advance(6000);
      server.sendError('services', code, 'Test');
      await watched(2 * i + j + 2);
    }
    t.equal(server.requests.at(-1)?.query.get('sendInitialEvents'), 'true');
  }
  t.same(timers.waits, [200, 200, 200, 200, 200, 200]);
});

t.test('a server that says the version is too large is listed', async (t) => {
  const { server } = await startComplete(t, { objects: OBJECTS });
  server.sendError('services', 504, 'Timeout', 'Too large resource version: 9, current: 3');
  await until('listed', () => server.requests.filter((r) => r.resource === 'services').length === 2);
  t.equal(server.requests.at(-1)?.query.get('sendInitialEvents'), 'true');
});

t.test('a step back of resourceVersion is noticed by the next event', async (t) => {
  const { server, sink } = await startComplete(t, { objects: OBJECTS });
  for (let i = 0; i < 5; i++) server.store.put(service('later', { marker: String(i) }));
  await until('later', () => sink.calls.length === 5);
  server.store.rewind(1);
  server.store.put(service('after-restore'));
  await until('listed', () => sink.objects.has('Service default/after-restore'));
  t.equal(
    server.requests
      .filter((r) => r.resource === 'services')
      .at(-1)
      ?.query.get('sendInitialEvents'),
    'true',
  );
  t.same(
    sink.take('Service').slice(5),
    ['+Service default/later', '+Service default/after-restore'],
    'what has another version',
  );
  await until('watching', () => server.watchers('services') === 1);
  server.store.put(service('after-restore', { marker: 'x' }));
  await until('the next change', () => sink.calls.length === 1);
  t.equal(sink.objects.size, 5);
});

t.test('a watch on which nothing was ever heard ends in a list', async (t) => {
  const { server, timers } = await startComplete(t, { objects: OBJECTS });
  server.dropWatches('end');
  await until('resumed', () => server.requests.filter((r) => r.resource === 'services').length === 2);
  await until('watching', () => server.watchers('services') === 1);
  await timers.clock.advance(150_000);
  server.dropWatches('end');
  await until('listed', () => server.requests.filter((r) => r.resource === 'services').length === 3);
  t.equal(
    server.requests
      .filter((r) => r.resource === 'services')
      .at(-1)
      ?.query.get('sendInitialEvents'),
    'true',
  );
});
