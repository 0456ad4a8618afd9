// What a source asks for and delivers at the start.
import t from 'tap';
import { makeNode, makeServiceCidr } from '../support/cluster.ts';
import { NODE_NAME, service, slice, startComplete, startHarness, until } from './harness.ts';

const OBJECTS = [
  service('a'),
  service('headless', { clusterIP: 'None' }),
  service('other-proxy', { labels: { 'service.kubernetes.io/service-proxy-name': '' } }),
  slice('a-1'),
  slice('headless-1', { 'service.kubernetes.io/headless': '' }),
  makeNode(NODE_NAME),
  makeNode('node-1'),
  makeServiceCidr(),
];

t.test('delivers the selected objects, then completes each kind once', async (t) => {
  const { sink, source } = await startHarness(t, { objects: OBJECTS });
  await until('complete', () => source.status().every((s) => s.complete));
  t.same([...sink.objects.keys()].sort(), [
    'EndpointSlice default/a-1',
    `Node /${NODE_NAME}`,
    'Service default/a',
    'ServiceCIDR /kubernetes',
  ]);
  for (const kind of ['Service', 'EndpointSlice', 'Node', 'ServiceCIDR']) {
    const calls = sink.calls.filter((call) => call.slice(1).startsWith(kind) && !call.slice(1).startsWith(`${kind}C`));
    t.equal(calls.at(-1), `=${kind}`, `${kind} is complete after its objects`);
    t.equal(calls.filter((call) => call === `=${kind}`).length, 1);
  }
});

t.test('sends the selectors of E-1, E-6 and P-10 in a streaming list', async (t) => {
  const { server } = await startComplete(t, { objects: OBJECTS });
  const selectors = Object.fromEntries(
    server.requests.map(({ resource, query }) => [resource, [query.get('labelSelector'), query.get('fieldSelector')]]),
  );
  t.same(selectors, {
    services: ['!service.kubernetes.io/service-proxy-name', 'spec.clusterIP!=None'],
    endpointslices: ['!service.kubernetes.io/headless', null],
    nodes: [null, `metadata.name=${NODE_NAME}`],
    servicecidrs: [null, null],
  });
  t.equal(server.requests.length, 4, 'one request a kind');
  for (const { query } of server.requests) {
    t.equal(query.get('sendInitialEvents'), 'true');
    t.equal(query.get('resourceVersionMatch'), 'NotOlderThan');
    t.equal(query.get('allowWatchBookmarks'), 'true');
    const timeout = Number(query.get('timeoutSeconds'));
    t.ok(timeout >= 300 && timeout <= 600, 'ends after 5 to 10 minutes');
  }
});

t.test('drops managedFields and annotations that are not used', async (t) => {
  const annotated = {
    ...slice('a-1'),
    metadata: {
      ...slice('a-1').metadata,
      annotations: { 'endpoints.kubernetes.io/last-change-trigger-time': 'T', other: 'x' },
    },
  };
  const { sink } = await startComplete(t, { objects: [annotated, service('a')] });
  const { metadata } = sink.objects.get('EndpointSlice default/a-1') as { metadata: Record<string, unknown> };
  t.same(metadata.annotations, { 'endpoints.kubernetes.io/last-change-trigger-time': 'T' });
  const svc = sink.objects.get('Service default/a') as { metadata: Record<string, unknown> };
  t.equal(svc.metadata.managedFields, undefined);
});

t.test('status tells objects, age and server of each watch', async (t) => {
  const { server, status, timers } = await startComplete(t, { objects: OBJECTS });
  t.same(status('Service'), {
    kind: 'Service',
    source: server.url,
    complete: true,
    optional: false,
    lastHeardMs: timers.wallMs(),
    silentMs: 0,
    outage: false,
    objects: 1,
    lastError: null,
    watches: 1,
    lists: 1,
  });
});
