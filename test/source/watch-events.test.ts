// Changes while a watch runs.
import t from 'tap';
import { service, slice, startComplete, until } from './harness.ts';

t.test('delivers additions, changes and deletions in order', async (t) => {
  const { server, sink } = await startComplete(t, { objects: [service('a')] });
  server.store.put(service('b'));
  server.store.put(service('a', { clusterIP: '10.96.0.9' }));
  server.store.delete('Service', 'default', 'b');
  await until('three calls', () => sink.calls.length >= 3);
  t.same(sink.calls, ['+Service default/b', '+Service default/a', '-Service default/b']);
});

t.test('an object that leaves the selection is removed, one that enters it is added (E-1)', async (t) => {
  const { server, sink } = await startComplete(t, { objects: [service('a')] });
  server.store.put(service('a', { labels: { 'service.kubernetes.io/service-proxy-name': 'x' } }));
  server.store.put(service('a'));
  server.store.put(service('a', { clusterIP: 'None' }));
  await until('three calls', () => sink.calls.length >= 3);
  t.same(sink.calls, ['-Service default/a', '+Service default/a', '-Service default/a']);
});

t.test('the choice holds also when the server ignores selectors', async (t) => {
  const { server, sink } = await startComplete(t, { objects: [slice('a-1')] });
  const stored = server.store.put(slice('a-1', { 'service.kubernetes.io/headless': '' }));
  server.sendRaw('endpointslices', `{"type":"MODIFIED","object":${stored.json}}\n`);
  server.store.put(slice('b-1'));
  await until('both calls', () => sink.calls.length >= 2);
  t.same(sink.calls, ['-EndpointSlice default/a-1', '+EndpointSlice default/b-1']);
});

t.test('repeated events are not delivered again', async (t) => {
  const { server, sink } = await startComplete(t, { objects: [service('a'), service('b')] });
  const line = (type: string, name: string) =>
    `{"type":"${type}","object":${server.store.all('services').find((o) => o.name === name)?.json}}\n`;
  const first = line('ADDED', 'a');
  server.sendRaw('services', first);
  const gone = line('DELETED', 'b');
  server.store.delete('Service', 'default', 'b');
  await until('removal', () => sink.calls.length >= 1);
  server.sendRaw('services', first + gone);
  server.store.put(service('c'));
  await until('the next change', () => sink.calls.includes('+Service default/c'));
  t.same(sink.calls, ['-Service default/b', '+Service default/c']);
  t.equal(server.requests.filter((r) => r.resource === 'services').length, 1, 'on the same watch');
});

t.test('a Sink that throws is reported and does not end the watch', async (t) => {
  const { server, sink, log, status } = await startComplete(t);
  sink.throwOn = 'Service default/bad';
  server.store.put(service('bad'));
  server.store.put(service('good'));
  await until('the good one', () => sink.objects.has('Service default/good'));
  t.equal(log.count('cannot take Service default/bad'), 1);
  t.match(status('Service').lastError, /default\/bad: cannot take/);
});

t.test('an object without a name is passed over', async (t) => {
  const { server, sink, log } = await startComplete(t);
  server.sendRaw('services', '{"type":"ADDED","object":{"kind":"Service","metadata":{}}}\n');
  server.store.put(service('good'));
  await until('the good one', () => sink.objects.has('Service default/good'));
  t.same(sink.calls, ['+Service default/good']);
  t.equal(log.count('without metadata.name'), 1);
});
