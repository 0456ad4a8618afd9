// Slices to endpoints: duplicates across slices, order, sharing, and the local count.
import t from 'tap';
import { countLocalReady, endpointsOf } from '../../agent/plan/endpoints.ts';
import { type EndpointSlice, parseEndpointSlice, type SliceEndpoint } from '../../agent/state/objects.ts';
import { type Raw, rawSlice } from '../support/kube-objects.ts';

const parse = (raw: Raw) => parseEndpointSlice(raw, { nodeName: 'worker-a' }).object!;
const http = (slices: EndpointSlice[]) => endpointsOf({ slices, portName: 'http', protocol: 'TCP' });
const keys = (endpoints: readonly SliceEndpoint[]) => endpoints.map((endpoint) => endpoint.key);

t.test('one slice lends its list, sorted bytewise', async (t) => {
  const slice = parse(rawSlice('a', 'web', ['10.0.0.2', '10.0.0.1', '10.0.0.10']));
  t.same(keys(http([slice])), ['10.0.0.10:8080', '10.0.0.1:8080', '10.0.0.2:8080']);
  t.equal(http([slice]), slice.ports[0]!.endpoints);
  t.equal(http([slice, parse(rawSlice('b', 'web', []))]), slice.ports[0]!.endpoints);
  t.same(http([]), []);
});

t.test('merging sorted slices gives what E-18 says of the entries one after another', async (t) => {
  const states = [
    { ready: true, serving: true, terminating: false },
    { ready: false, serving: true, terminating: true },
    { ready: false, serving: false, terminating: true },
    { ready: true, serving: false, terminating: false },
  ];
  // All ways to give one address up to three times, cut into slices at every place.
  const entries = states.flatMap((a) => [[a], ...states.flatMap((b) => [[a, b], ...states.map((c) => [a, b, c])])]);
  for (const conditions of entries) {
    let wanted = conditions[0]!;
    for (const next of conditions.slice(1)) if (!next.terminating) wanted = next;
    for (let cut = 0; cut <= conditions.length; cut++) {
      const slice = (name: string, part: typeof states) =>
        parse(rawSlice(name, 'web', [...part.map((c) => ({ addresses: ['10.0.0.1'], conditions: c })), '10.0.0.2']));
      const merged = http([slice('a', conditions.slice(0, cut)), slice('b', conditions.slice(cut))]);
      const [first, second] = merged;
      const { ready, serving, terminating } = first!;
      const right = merged.length === 2 && second?.ip === '10.0.0.2';
      if (!right || JSON.stringify({ ready, serving, terminating }) !== JSON.stringify(wanted)) {
        t.same(merged, wanted, JSON.stringify({ conditions, cut }));
      }
    }
  }
  t.equal(entries.length, 84);
});

t.test('name and protocol both select', async (t) => {
  const ports = [
    { name: 'http', protocol: 'UDP', port: 1 },
    { name: '', protocol: 'TCP', port: 2 },
    { name: 'http', protocol: 'TCP', port: 3 },
    { name: 'http', protocol: 'TCP', port: 4 },
  ];
  t.same(keys(http([parse(rawSlice('a', 'web', ['10.0.0.1'], { ports }))])), ['10.0.0.1:3', '10.0.0.1:4']);
});

t.test('the local count: different IPs, ready, local, over ports the Service lacks too (S-53, E-22)', async (t) => {
  const at = (ip: string, nodeName: string, conditions = {}) => ({ addresses: [ip], nodeName, conditions });
  const ports = [
    { name: 'http', port: 80 },
    { name: 'other', port: 81 },
  ];
  const slices = [
    parse(
      rawSlice(
        'a',
        'web',
        [at('10.0.0.1', 'worker-a'), at('10.0.0.2', 'worker-b'), at('10.0.0.3', 'worker-a', { ready: false })],
        { ports },
      ),
    ),
    parse(
      rawSlice('b', 'web', [at('10.0.0.1', 'worker-a'), at('10.0.0.4', 'worker-a')], {
        ports: [{ name: 'x', port: 1 }],
      }),
    ),
  ];
  t.equal(countLocalReady(slices), 2);
  t.equal(countLocalReady([]), 0);
});
