// Broken EndpointSlices: what is left of them and which Problems they give.
import t from 'tap';
import { parseEndpointSlice } from '../../agent/state/objects.ts';
import { type Raw, rawSlice } from '../support/kube-objects.ts';

const GOOD = '10.128.0.9';
const endpoint = (fields: Raw) => rawSlice('web-1', 'web', [fields, GOOD]);
const address = (ip: unknown) => endpoint({ addresses: [ip] });
const port = (fields: Raw) => ({
  ...rawSlice('web-1', 'web', [GOOD]),
  ports: [fields, { name: 'http', protocol: 'TCP', port: 8080 }],
});
const labels = (value: Raw) => ({ metadata: { namespace: 'shop', name: 'web-1', labels: value } });

/** name, raw, fields of the Problems, whether the good endpoint is left. */
const cases: [name: string, raw: Raw, problems: string[], left: boolean][] = [
  ['no object', 7, [''], false],
  ['overlong name', rawSlice('a'.repeat(254), 'web', [GOOD]), ['metadata.name'], false],
  [
    'service label missing',
    rawSlice('web-1', 'web', [GOOD], labels({})),
    ["metadata.labels['kubernetes.io/service-name']"],
    false,
  ],
  ['service name empty', rawSlice('web-1', '', [GOOD]), ["metadata.labels['kubernetes.io/service-name']"], false],
  [
    'service name no text',
    rawSlice('web-1', 5 as never, [GOOD]),
    ["metadata.labels['kubernetes.io/service-name']"],
    false,
  ],
  [
    'service name overlong',
    rawSlice('web-1', 'a'.repeat(64), [GOOD]),
    ["metadata.labels['kubernetes.io/service-name']"],
    false,
  ],
  ['address type missing', { ...rawSlice('web-1', 'web', [GOOD]), addressType: null }, ['addressType'], false],
  ['address type unknown', { ...rawSlice('web-1', 'web', [GOOD]), addressType: 'IPv5' }, ['addressType'], false],
  ['endpoints no list', { ...rawSlice('web-1', 'web', []), endpoints: {} }, ['endpoints'], false],
  ['endpoint null', endpoint(null), ['endpoints[0]'], true],
  [
    'endpoint a text',
    { ...rawSlice('web-1', 'web', []), endpoints: ['x', { addresses: [GOOD] }] },
    ['endpoints[0]'],
    true,
  ],
  ['addresses null', endpoint({ addresses: null }), ['endpoints[0].addresses'], true],
  ['addresses empty', endpoint({ addresses: [] }), ['endpoints[0].addresses'], true],
  ['address garbage', address('10.0.0'), ['endpoints[0].addresses'], true],
  ['address a number', address(10), ['endpoints[0].addresses'], true],
  ['address with prefix length', address('10.0.0.1/24'), ['endpoints[0].addresses'], true],
  ['address of the other family', address('2001:db8::1'), ['endpoints[0].addresses'], true],
  ['loopback', address('127.0.0.1'), ['endpoints[0].addresses'], true],
  ['link-local', address('169.254.1.1'), ['endpoints[0].addresses'], true],
  ['multicast', address('239.0.0.1'), ['endpoints[0].addresses'], true],
  ['unspecified', address('0.0.0.0'), ['endpoints[0].addresses'], true],
  ['conditions a text', endpoint({ addresses: ['10.0.0.1'], conditions: 'ready' }), ['endpoints[0].conditions'], true],
  [
    'ready a text',
    endpoint({ addresses: ['10.0.0.1'], conditions: { ready: 'no' } }),
    ['endpoints[0].conditions.ready'],
    true,
  ],
  ['nodeName a number', endpoint({ addresses: ['10.0.0.1'], nodeName: 5 }), ['endpoints[0].nodeName'], true],
  ['hints a text', endpoint({ addresses: ['10.0.0.1'], hints: 'here' }), ['endpoints[0].hints'], true],
  [
    'hints garbage',
    endpoint({ addresses: ['10.0.0.1'], hints: { forZones: 'a', forNodes: [null, 5, {}] } }),
    ['endpoints[0].hints.forZones', 'endpoints[0].hints.forNodes'],
    true,
  ],
  [
    'ready and not ready',
    endpoint({ addresses: [GOOD], conditions: { ready: false, serving: false } }),
    ['endpoints'],
    true,
  ],
  [
    'ready, and terminating before (E-18)',
    endpoint({ addresses: [GOOD], conditions: { ready: false, terminating: true } }),
    [],
    true,
  ],
  ['broadcast', address('255.255.255.255'), ['endpoints[0].addresses'], true],
  ['port null', port(null), ['ports[0]'], true],
  ['port name null', port({ name: null, port: 1 }), ['ports[0].name'], true],
  ['port name overlong', port({ name: 'a'.repeat(64), port: 1 }), ['ports[0].name'], true],
  ['port number null', port({ name: 'a', port: null }), ['ports[0].port'], true],
  ['port number 0', port({ name: 'a', port: 0 }), ['ports[0].port'], true],
  ['port number 70000', port({ name: 'a', port: 70000 }), ['ports[0].port'], true],
  ['port number a text', port({ name: 'a', port: '80' }), ['ports[0].port'], true],
  ['protocol unknown', port({ name: 'a', port: 80, protocol: 'ICMP' }), ['ports[0].protocol'], true],
  ['port twice', port({ name: 'http', protocol: 'TCP', port: 8080 }), [], true],
  ['ports no list', { ...rawSlice('web-1', 'web', [GOOD]), ports: 5 }, ['ports'], false],
];

for (const [name, raw, problems, left] of cases) {
  t.test(name, async (t) => {
    const parsed = parseEndpointSlice(JSON.parse(JSON.stringify(raw)), { nodeName: 'worker-a' });
    t.same(
      parsed.problems.map((problem) => problem.field),
      problems,
    );
    const endpoints = parsed.object?.ports.find((port) => port.name === 'http')?.endpoints ?? [];
    t.equal(
      endpoints.some((endpoint) => endpoint.key === `${GOOD}:8080`),
      left,
    );
  });
}

t.test('unusable IPv6 endpoints', async (t) => {
  const bad = ['::1', '::', 'fe80::1', 'febf::1', 'ff02::1', '::ffff:10.0.0.1', 'fe80::1%eth0'];
  const raw = { ...rawSlice('web-1', 'web', [...bad, '2001:DB8:0::1', 'fec0::1']), addressType: 'IPv6' };
  const { object, problems } = parseEndpointSlice(raw, { nodeName: '' });
  t.equal(problems.length, bad.length);
  t.same(
    object?.ports[0]?.endpoints.map((endpoint) => endpoint.key),
    ['[2001:db8::1]:8080', '[fec0::1]:8080'],
  );
});

t.test('a headless or FQDN slice is not selected and no Problem', async (t) => {
  const headless = { 'kubernetes.io/service-name': 'web', 'service.kubernetes.io/headless': '' };
  const options = { nodeName: 'worker-a' };
  t.match(
    parseEndpointSlice(
      rawSlice('s', 'web', ['x'], { metadata: { namespace: 'shop', name: 's', labels: headless } }),
      options,
    ),
    { object: null, problems: { length: 0 } },
  );
  t.match(parseEndpointSlice({ ...rawSlice('s', 'web', ['x']), addressType: 'FQDN' }, options), {
    object: null,
    problems: { length: 0 },
  });
});

t.test('nothing is local to an agent without node name', async (t) => {
  const raw = rawSlice('web-1', 'web', [{ addresses: [GOOD], nodeName: '' }, { addresses: ['10.0.0.1'] }]);
  const { object } = parseEndpointSlice(raw, { nodeName: '' });
  t.same(
    object?.ports[0]?.endpoints.map((endpoint) => endpoint.local),
    [false, false],
  );
});

t.test('a huge slice keeps what fits, and ports of one number share their endpoints', async (t) => {
  const ips = Array.from({ length: 60_000 }, (_, i) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
  const ports = [
    { name: 'dns', protocol: 'UDP', port: 53 },
    { name: 'dns-tcp', protocol: 'TCP', port: 53 },
  ];
  const { object, problems } = parseEndpointSlice({ ...rawSlice('s', 'dns', ips), ports }, { nodeName: '' });
  t.equal(object?.ports[0]?.endpoints.length, 50_000);
  t.equal(object?.ports[0]?.endpoints, object?.ports[1]?.endpoints);
  t.same(
    problems.map((problem) => problem.field),
    ['endpoints'],
  );
});

t.test('the trigger time is read with its fraction, or not at all (E-48)', async (t) => {
  const at = (text: unknown) => {
    const annotations = { 'endpoints.kubernetes.io/last-change-trigger-time': text };
    const metadata = { namespace: 'shop', name: 's', labels: { 'kubernetes.io/service-name': 'web' }, annotations };
    return parseEndpointSlice(rawSlice('s', 'web', [], { metadata }), { nodeName: '' }).object?.triggerTimeMs;
  };
  t.equal(at('2026-01-02T03:04:05.678901234Z'), Date.UTC(2026, 0, 2, 3, 4, 5, 678));
  t.equal(at('2026-01-02T03:04:05+01:00'), Date.UTC(2026, 0, 2, 2, 4, 5));
  for (const text of ['yesterday', '2026-01-02', '2026-13-02T03:04:05Z', 5, null]) t.equal(at(text), null);
});
