// Plans of whole Services: frontends, source ranges, families, external IPs switched off.
import t from 'tap';
import { explainService, planService } from '../../agent/plan/plan-service.ts';
import { State } from '../../agent/state/state.ts';
import type { Family } from '../../native/ip.ts';
import { type Raw, rawNode, rawService, rawSlice } from '../support/kube-objects.ts';

function stateWith(objects: readonly Raw[], allowExternalIPs = true): State {
  const state = new State({ nodeName: 'worker-a', startedMs: 0, allowExternalIPs });
  for (const object of objects) state.apply(object.kind, object);
  return state;
}

const NODE_IP = { IPv4: '192.0.2.11', IPv6: '2001:db8::11' };
const plan = (state: State, key: string, family: Family) =>
  planService({ ...state.planInput(key, family), nodeIP: NODE_IP[family] });

const full = {
  ...rawService('web', {
    type: 'LoadBalancer',
    ipFamilies: ['IPv4', 'IPv6'],
    clusterIPs: ['10.96.0.1', 'fd00:10:96::1'],
    externalIPs: ['198.18.9.5', '198.18.9.6', '2001:db8:9::5'],
    loadBalancerSourceRanges: ['192.0.2.0/24', '203.0.113.0/24', '2001:db8:cc::/64'],
    externalTrafficPolicy: 'Local',
    sessionAffinity: 'ClientIP',
    ports: [
      { name: 'https', port: 443, nodePort: 30443 },
      { name: 'http', port: 80 },
    ],
  }),
  status: { loadBalancer: { ingress: [{ ip: '198.18.0.10' }, { ip: '198.18.9.5' }] } },
};
const slice = rawSlice('web-1', 'web', [{ addresses: ['10.128.0.1'], nodeName: 'worker-a' }, '10.128.0.2']);

t.test('a Service with everything', async (t) => {
  const state = stateWith([full, slice]);
  const [local, remote] = state.slices('shop/web', 'IPv4')[0]!.ports[0]!.endpoints;
  const common = {
    protocol: 'TCP',
    internalLocal: false,
    externalLocal: true,
    affinitySeconds: 10800,
    sourceRanges: ['192.0.2.0/24', '203.0.113.0/24'],
    sourcesIncludeNode: true,
  };
  const ips = (port: number) => [
    { kind: 'clusterIP', ip: '10.96.0.1', port },
    { kind: 'externalIP', ip: '198.18.9.5', port },
    { kind: 'externalIP', ip: '198.18.9.6', port },
    { kind: 'loadBalancer', ip: '198.18.0.10', port },
    { kind: 'loadBalancer', ip: '198.18.9.5', port },
  ];
  t.same(plan(state, 'shop/web', 'IPv4'), {
    namespace: 'shop',
    name: 'web',
    family: 'IPv4',
    healthCheckNodePort: 0,
    ports: [
      {
        ...common,
        portName: 'http',
        frontends: ips(80),
        cluster: [local, remote],
        local: [local],
        hasEndpoints: true,
        endpointCount: 2,
        onNode: [local],
      },
      {
        ...common,
        portName: 'https',
        frontends: [...ips(443), { kind: 'nodePort', ip: null, port: 30443 }],
        cluster: [],
        local: [],
        hasEndpoints: false,
        endpointCount: 0,
        onNode: [],
      },
    ],
  });
  const ipv6 = plan(state, 'shop/web', 'IPv6');
  t.match(ipv6?.ports[0], { cluster: { length: 0 }, sourceRanges: ['2001:db8:cc::/64'], sourcesIncludeNode: false });
  t.same(ipv6?.ports[0]?.frontends, [
    { kind: 'clusterIP', ip: 'fd00:10:96::1', port: 80 },
    { kind: 'externalIP', ip: '2001:db8:9::5', port: 80 },
  ]);
});

t.test('external IPs switched off are not served, but still count as external access (S-10, E-25)', async (t) => {
  const raw = rawService('web', { externalIPs: ['198.18.9.5'], externalTrafficPolicy: 'Local' });
  const state = stateWith([raw, slice], false);
  const [port] = plan(state, 'shop/web', 'IPv4')?.ports ?? [];
  t.same(port?.frontends, [{ kind: 'clusterIP', ip: '10.96.0.1', port: 80 }]);
  t.equal(port?.local.length, 1);
});

t.test('nothing to do is no plan', async (t) => {
  const state = stateWith([rawService('web'), rawService('portless', { ports: [] }), slice]);
  t.equal(plan(state, 'shop/web', 'IPv6'), null, 'not in this family');
  t.equal(plan(state, 'shop/portless', 'IPv4'), null, 'no ports');
  t.equal(plan(state, 'shop/unknown', 'IPv4'), null, 'slices without Service');
  const thief = rawService('thief', {}, { creationTimestamp: '2020-01-01T00:00:00Z' });
  state.apply('Service', thief);
  t.equal(plan(state, 'shop/web', 'IPv4'), null, 'all frontends lost');
  t.ok(plan(state, 'shop/thief', 'IPv4'));
  t.same(explainService({ ...state.planInput('shop/web', 'IPv4'), nodeIP: '' })[0]?.lost, [
    { kind: 'clusterIP', ip: '10.96.0.1', port: 80 },
  ]);
});

t.test('the zone of the Node decides about hints', async (t) => {
  const hinted = (ip: string, zone: string) => ({ addresses: [ip], hints: { forZones: [{ name: zone }] } });
  const state = stateWith([
    rawService('web'),
    rawSlice('s', 'web', [hinted('10.0.0.1', 'a'), hinted('10.0.0.2', 'b')]),
  ]);
  const used = () => plan(state, 'shop/web', 'IPv4')?.ports[0]?.cluster.map((endpoint) => endpoint.ip);
  t.same(used(), ['10.0.0.1', '10.0.0.2']);
  state.apply('Node', rawNode('worker-a', { 'topology.kubernetes.io/zone': 'b' }));
  t.same(used(), ['10.0.0.2']);
});
