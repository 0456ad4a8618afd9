// Nodes and ServiceCIDRs, whole and broken.
import t from 'tap';
import { parseNode, parseServiceCIDR } from '../../agent/state/objects.ts';
import { rawNode } from '../support/kube-objects.ts';

t.test('a Node is reduced to what matters', async (t) => {
  const raw = rawNode('worker-a', { 'topology.kubernetes.io/zone': 'eu-1a' });
  raw.metadata.deletionTimestamp = '2026-01-01T00:00:00Z';
  raw.spec = { podCIDRs: ['10.128.004.0/24', 'fd00::/64'], taints: [{ key: 'a', effect: 'NoSchedule' }, { key: 'b' }] };
  raw.status.addresses.push({ type: 'Hostname', address: 'worker-a' }, { type: 'ExternalIP', address: '2001:DB8::1' });
  t.same(parseNode(raw), {
    namespace: '',
    name: 'worker-a',
    object: {
      name: 'worker-a',
      zone: 'eu-1a',
      podCidrs: ['10.128.4.0/24', 'fd00::/64'],
      addresses: [
        { type: 'InternalIP', ip: '192.0.2.11' },
        { type: 'ExternalIP', ip: '2001:db8::1' },
      ],
      deleting: true,
      taintKeys: ['a', 'b'],
    },
    problems: [],
  });
});

t.test('a broken Node keeps its usable parts', async (t) => {
  const raw = rawNode('worker-a', 'none');
  raw.spec = { podCIDRs: ['x', '10.128.4.0/24', 7], taints: [null, 5, { key: 5 }] };
  raw.status.addresses = [
    null,
    'x',
    { type: 'InternalIP', address: '1.2.3' },
    { type: 'InternalIP', address: '192.0.2.9' },
  ];
  const { object, problems } = parseNode(raw);
  t.match(object, { zone: '', podCidrs: ['10.128.4.0/24'], taintKeys: { length: 0 }, deleting: false });
  t.same(object?.addresses, [{ type: 'InternalIP', ip: '192.0.2.9' }]);
  t.same(
    problems.map((problem) => problem.field),
    ['metadata.labels', 'spec.podCIDRs[0]', 'spec.podCIDRs[2]', 'status.addresses[1]', 'status.addresses[2].address'],
  );
  t.equal(problems[0]?.object, 'Node worker-a');
});

t.test('ServiceCIDRs by family', async (t) => {
  const { object, problems } = parseServiceCIDR({
    metadata: { name: 'kubernetes' },
    spec: { cidrs: ['10.96.1.2/16', 'fd00:10:96::/112', '10.96.0.0'] },
  });
  t.same(object?.cidrs, { IPv4: ['10.96.0.0/16'], IPv6: ['fd00:10:96::/112'] });
  t.match(problems, [{ object: 'ServiceCIDR kubernetes', field: 'spec.cidrs[2]' }]);
});
