// What a client tells of its requests, for metrics.
import t from 'tap';
import { KubeClient, type RequestObserver } from '../../agent/source/kube-client.ts';
import { TestApiServer } from '../support/api-server.ts';
import { service } from './harness.ts';

const PATH = '/api/v1/services';

t.test('answers, bodies, watches and failures', async (t) => {
  const server = new TestApiServer();
  server.store.put(service('a'));
  const url = await server.start();
  const { host } = new URL(url);
  const requests: Parameters<RequestObserver['onRequest']>[0][] = [];
  const bodies: Parameters<RequestObserver['onBody']>[0][] = [];
  const client = new KubeClient({
    server: url,
    env: {},
    observer: { onRequest: (r) => void requests.push(r), onBody: (b) => void bodies.push(b) },
  });
  t.teardown(() => client.close());
  const { signal } = new AbortController();

  const list = await client.send({ path: PATH, signal });
  t.match(requests.splice(0), [{ method: 'GET', host, status: 200, watch: false, requestBytes: 0 }]);
  let bytes = 0;
  for await (const chunk of list.body) bytes += chunk.length;
  t.ok(bytes > 0);
  t.same(bodies.splice(0), [{ method: 'GET', host, bytes }]);

  const left = await client.send({ path: PATH, signal });
  for await (const _ of left.body) break;
  t.equal(bodies.splice(0).length, 1, 'a body that is left counts as well');
  requests.splice(0);

  const event = { metadata: { name: 'ö' } };
  const path = '/apis/events.k8s.io/v1/namespaces/default/events';
  const written = await client.send({ path, method: 'POST', body: event, signal });
  for await (const _ of written.body);
  const requestBytes = Buffer.byteLength(JSON.stringify(event));
  t.match(requests.splice(0), [{ method: 'POST', status: 201, requestBytes }]);
  t.equal(bodies.splice(0).length, 1);

  const patched = await client.send({ path: `${path}/a`, method: 'PATCH', body: { series: { count: 2 } }, signal });
  for await (const _ of patched.body);
  t.match(requests.splice(0), [{ method: 'PATCH', status: 200 }], 'with the content type of a patch');
  bodies.splice(0);

  const watch = new AbortController();
  const stream = await client.send({ path: `${PATH}?watch=true&resourceVersion=0`, signal: watch.signal });
  t.match(requests.splice(0), [{ status: 200, watch: true }]);
  watch.abort();
  await t.rejects(async () => {
    for await (const _ of stream.body);
  });
  t.same(bodies, [], 'a watch has no size');

  await server.close();
  await t.rejects(client.send({ path: PATH, signal }));
  t.match(requests, [{ method: 'GET', status: null, watch: false }]);
  t.ok(requests[0]!.seconds >= 0);
});
