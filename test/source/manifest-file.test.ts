// The text of a manifest file.
import t from 'tap';
import { parseManifest } from '../../agent/source/manifest-file.ts';

const names = (text: string) => parseManifest(text).objects.map((o) => `${o.kind} ${o.namespace}/${o.name}`);

t.test('several documents, other kinds and empty documents', (t) => {
  const text = `# a comment
apiVersion: v1
kind: Service
metadata: {name: a}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: x}
---
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, namespace: shop}
---
apiVersion: v1
kind: Node
metadata: {name: n}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: c, namespace: ignored}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: not-ours}
`;
  t.same(names(text), ['Service default/a', 'EndpointSlice shop/a-1', 'Node /n', 'ServiceCIDR /c']);
  t.same(parseManifest(text).errors, []);
  t.equal((parseManifest(text).objects[0]!.object.metadata as { namespace: string }).namespace, 'default');
  t.end();
});

t.test('lists, also in JSON and with items that do not tell their kind', (t) => {
  const item = { metadata: { name: 'a', namespace: 'x' } };
  const service = { apiVersion: 'v1', kind: 'Service', ...item };
  t.same(names(JSON.stringify({ kind: 'List', items: [service, { kind: 'Pod' }] })), ['Service x/a']);
  t.same(names(JSON.stringify({ kind: 'ServiceList', items: [item] }, null, 2)), ['Service x/a']);
  t.same(names('kind: EndpointSliceList\nitems:\n- metadata: {name: a}\n'), ['EndpointSlice default/a']);
  t.same(names(JSON.stringify(service)), ['Service x/a']);
  t.same(parseManifest(JSON.stringify({ kind: 'ServiceList', items: [item] })).objects[0]?.object.kind, 'Service');
  t.end();
});

t.test('errors name document and line; the other documents count', (t) => {
  const good = 'kind: Service\nmetadata: {name: a}\n';
  for (const [text, error] of [
    [`${good}---\nkind: Service\nmetadata: [\n`, /^document 2, line \d: /],
    [`${good}---\nkind: Service\nmetadata: {}\n`, /^document 2, line 4: Service without metadata.name$/],
    [`${good}---\n- 1\n`, /^document 2, line 4: not an object$/],
    [`${good}---\nmetadata: {name: b}\n`, /^document 2, line 4: kind is missing$/],
    [`${good}---\nkind: List\nitems: [{kind: Node}]\n`, /^document 2, line 4, items\[0\]: Node without metadata.name$/],
    [
      `${good}---\na: &a [x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n`,
      /^document 2, line 4: /,
    ],
    [`${good}---\nkind: Service\nkind: Node\n`, /^document 2, line 5: /],
  ] as const) {
    const { objects, errors } = parseManifest(text);
    t.equal(objects.length, 1, JSON.stringify(text));
    t.equal(errors.length, 1);
    t.match(errors[0], error);
  }
  t.match(parseManifest('{"kind": "Service", "metadata": }').errors, [/^document 1, line 1: /]);
  t.end();
});
