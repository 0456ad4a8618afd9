// Where each kind of traffic goes, from objects as the API has them.
import t from 'tap';
import { Explainer } from '../../agent/explain/explainer.ts';
import type { EndpointExplanation, PortExplanation } from '../../agent/explain/explanation.ts';
import { planService } from '../../agent/plan/plan-service.ts';
import { State } from '../../agent/state/state.ts';
import type { DetectLocal, NodeSettings } from '../../backends/service-plan.ts';
import { type Raw, rawNode, rawService, rawSlice } from '../support/kube-objects.ts';

const PODS: DetectLocal = { by: 'cidr', cidr: '10.244.0.0/16' };

interface Case {
  spec?: Raw;
  status?: Raw;
  endpoints: readonly Raw[];
  detectLocal?: DetectLocal | null;
  masqueradeAll?: boolean;
  /** In ipvs mode. */
  scheduler?: string | null;
}

/** The only port of Service shop/web. */
function explained(given: Case): PortExplanation {
  const { spec, status, endpoints, detectLocal = PODS, masqueradeAll = false, scheduler = null } = given;
  const state = new State({ nodeName: 'node-a', startedMs: 0, allowExternalIPs: true });
  state.apply('Node', rawNode('node-a', { 'topology.kubernetes.io/zone': 'eu-1a' }));
  state.apply('Service', { ...rawService('web', spec), status });
  state.apply('EndpointSlice', rawSlice('web-1', 'web', endpoints));
  state.takeChanges();
  const settings: NodeSettings = {
    masqueradeAll,
    masqueradeBit: 14,
    dropInvalid: true,
    families: {
      IPv4: {
        detectLocal,
        nodePortAddresses: ['192.0.2.11'],
        localhostNodePorts: false,
        hostAddresses: [],
        serviceCidrs: [],
      },
    },
  };
  const addresses = { primaryFamily: 'IPv4', IPv4: '192.0.2.11', IPv6: '::1' } as const;
  const explainer = new Explainer({ state, families: ['IPv4'], addresses, settings, scheduler, refused: [] });
  const { ports } = explainer.explain('shop/web')!;
  const plan = planService({ ...state.planInput('shop/web', 'IPv4'), nodeIP: addresses.IPv4 })!;
  t.same(ports[0]!.frontends, plan.ports[0]!.frontends, 'frontends are those of the plan');
  return ports[0]!;
}

const traffic = (port: PortExplanation): string[] =>
  port.traffic.map(
    ({ kind, set, outcome, sharePercent, masquerade }) => `${kind} ${set} ${outcome} ${sharePercent} ${masquerade}`,
  );
const endpoint = (port: PortExplanation, ip: string): EndpointExplanation =>
  port.endpoints.find(({ address }) => address.startsWith(`${ip}:`))!;

const here = { addresses: ['10.244.1.1'], nodeName: 'node-a' };
const there = { addresses: ['10.244.2.1'], nodeName: 'node-b' };
const far = { addresses: ['10.244.3.1'], nodeName: 'node-c' };
const NODE_PORT = { type: 'NodePort', ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: 30080 }] };
const notReady = { ready: false, serving: false, terminating: false };
const draining = { ready: false, serving: true, terminating: true };
const gone = { ready: false, serving: false, terminating: true };

const cases: { name: string; given: Case; traffic: string[] }[] = [
  {
    name: 'cluster IP, pods are told by a detector',
    given: { endpoints: [here, there, far, { addresses: ['10.244.3.2'] }] },
    traffic: ['internal cluster endpoints 25 exceptPods'],
  },
  {
    name: 'no detector: nothing is masqueraded (S-65)',
    given: { endpoints: [here], detectLocal: null },
    traffic: ['internal cluster endpoints 100 never'],
  },
  {
    name: 'masqueradeAll is for the cluster IP (S-67)',
    given: { spec: NODE_PORT, endpoints: [here], masqueradeAll: true },
    traffic: ['internal cluster endpoints 100 always', 'external cluster endpoints 100 always'],
  },
  {
    name: 'externalTrafficPolicy Local (S-20)',
    given: { spec: { ...NODE_PORT, externalTrafficPolicy: 'Local' }, endpoints: [here, there] },
    traffic: [
      'internal cluster endpoints 50 exceptPods',
      'outside local endpoints 100 never',
      'inside cluster endpoints 50 exceptPods',
    ],
  },
  {
    name: 'the same without a detector (S-21) and without endpoints here (S-32)',
    given: { spec: { ...NODE_PORT, externalTrafficPolicy: 'Local' }, endpoints: [there], detectLocal: null },
    traffic: [
      'internal cluster endpoints 100 never',
      'outside local drop null never',
      'inside cluster endpoints 100 always',
    ],
  },
  {
    name: 'internalTrafficPolicy Local without endpoints here (S-31)',
    given: { spec: { internalTrafficPolicy: 'Local' }, endpoints: [there] },
    traffic: ['internal local drop null exceptPods'],
  },
  {
    name: 'internalTrafficPolicy Local does not bind external traffic',
    given: { spec: { ...NODE_PORT, internalTrafficPolicy: 'Local' }, endpoints: [here, there] },
    traffic: ['internal local endpoints 100 exceptPods', 'external cluster endpoints 50 always'],
  },
  {
    name: 'no endpoints (S-30)',
    given: { spec: { ...NODE_PORT, externalTrafficPolicy: 'Local' }, endpoints: [{ ...here, conditions: notReady }] },
    traffic: [
      'internal cluster reject null exceptPods',
      'outside local reject null never',
      'inside cluster reject null exceptPods',
    ],
  },
];

for (const { name, given, traffic: wanted } of cases) {
  t.test(name, async (t) => t.same(traffic(explained(given)), wanted));
}

const ipvsCases: { name: string; given: Case; traffic: string[] }[] = [
  {
    name: 'the scheduler chooses (S-94)',
    given: { spec: NODE_PORT, endpoints: [here, there] },
    traffic: ['internal cluster endpoints null exceptPods', 'external cluster endpoints null always'],
  },
  {
    name: 'one endpoint',
    given: { endpoints: [there] },
    traffic: ['internal cluster endpoints 100 exceptPods'],
  },
  {
    name: 'no detector: traffic of the node is masqueraded (S-93)',
    given: { endpoints: [here], detectLocal: null },
    traffic: ['internal cluster endpoints 100 node'],
  },
  {
    name: 'masqueradeAll',
    given: { endpoints: [here], detectLocal: null, masqueradeAll: true },
    traffic: ['internal cluster endpoints 100 always'],
  },
  {
    name: 'externalTrafficPolicy Local is for every origin (S-91)',
    given: { spec: { ...NODE_PORT, externalTrafficPolicy: 'Local' }, endpoints: [here, there, far] },
    traffic: ['internal cluster endpoints null exceptPods', 'external local endpoints 100 never'],
  },
  {
    name: 'the same without endpoints here',
    given: { spec: { ...NODE_PORT, externalTrafficPolicy: 'Local' }, endpoints: [there, far] },
    traffic: ['internal cluster endpoints null exceptPods', 'external cluster endpoints null never fallback'],
  },
  {
    name: 'internalTrafficPolicy Local without endpoints here (S-90)',
    given: { spec: { ...NODE_PORT, internalTrafficPolicy: 'Local' }, endpoints: [there, far] },
    traffic: ['internal cluster endpoints null exceptPods fallback', 'external cluster endpoints null always'],
  },
  {
    name: 'the same without external traffic: refused, not dropped (S-92)',
    given: { spec: { internalTrafficPolicy: 'Local' }, endpoints: [there, far] },
    traffic: ['internal local reject null exceptPods'],
  },
  {
    name: 'no endpoints',
    given: { spec: { ...NODE_PORT, externalTrafficPolicy: 'Local' }, endpoints: [] },
    traffic: ['internal cluster reject null exceptPods', 'external local reject null never'],
  },
];

for (const { name, given, traffic: wanted } of ipvsCases) {
  t.test(`ipvs: ${name}`, async (t) => {
    const port = explained({ scheduler: 'lc', ...given });
    t.equal(port.scheduler, 'lc');
    const fallbacks = port.traffic.map(({ fallback }) => (fallback ? ' fallback' : ''));
    t.same(
      traffic(port).map((text, i) => text + fallbacks[i]),
      wanted,
    );
  });
}

t.test('ipvs: who gets what', async (t) => {
  const spec = { ...NODE_PORT, externalTrafficPolicy: 'Local' };
  const endpoints = [here, there, { ...far, conditions: notReady }];
  const port = explained({ spec, endpoints, scheduler: 'rr' });
  t.same(endpoint(port, '10.244.1.1'), { ...endpoint(port, '10.244.1.1'), shares: { internal: null, external: 100 } });
  t.same(endpoint(port, '10.244.2.1').shares, { internal: null });
  t.same(endpoint(port, '10.244.2.1').leftOut, { external: 'on another node' });
  t.same(endpoint(port, '10.244.3.1').leftOut, { internal: 'not ready', external: 'not ready' });
});

t.test('why endpoints are left out', async (t) => {
  const port = explained({
    spec: { ...NODE_PORT, externalTrafficPolicy: 'Local' },
    endpoints: [
      here,
      there,
      { ...far, conditions: notReady },
      { addresses: ['10.244.1.2'], nodeName: 'node-a', conditions: draining },
      { addresses: ['10.244.2.2'], nodeName: 'node-b', conditions: draining },
      { addresses: ['10.244.1.3'], nodeName: 'node-a', conditions: gone },
    ],
  });
  t.same(endpoint(port, '10.244.1.1').shares, { internal: 50, outside: 100, inside: 50 });
  t.same(endpoint(port, '10.244.1.1').leftOut, {});
  const others = 'terminating, others are ready';
  const elsewhere = 'on another node';
  const dead = 'terminating, no longer serving';
  const reasons: [string, Record<string, string>][] = [
    ['10.244.2.1', { outside: elsewhere }],
    ['10.244.3.1', { internal: 'not ready', outside: 'not ready', inside: 'not ready' }],
    ['10.244.1.2', { internal: others, outside: others, inside: others }],
    ['10.244.2.2', { internal: others, outside: elsewhere, inside: others }],
    ['10.244.1.3', { internal: dead, outside: dead, inside: dead }],
  ];
  for (const [ip, wanted] of reasons) t.same(endpoint(port, ip).leftOut, wanted, ip);
  t.equal(port.terminatingUsed, false);
});

t.test('terminating endpoints serve when nothing is ready (E-33)', async (t) => {
  const port = explained({
    endpoints: [
      { ...here, conditions: draining },
      { ...there, conditions: notReady },
    ],
  });
  t.equal(port.terminatingUsed, true);
  t.match(endpoint(port, '10.244.1.1'), { shares: { internal: 100 }, terminating: true, ready: false });
  t.same(endpoint(port, '10.244.2.1').leftOut, { internal: 'not ready' });
});

t.test('hints for zones and nodes (E-35)', async (t) => {
  const zones = explained({
    endpoints: [
      { ...here, hints: { forZones: [{ name: 'eu-1a' }] } },
      { ...there, hints: { forZones: [{ name: 'eu-1b' }, { name: 'eu-1c' }] } },
    ],
  });
  t.equal(zones.topology, 'sameZone');
  t.same(endpoint(zones, '10.244.2.1').leftOut, { internal: 'hinted for zone eu-1b, eu-1c' });
  const nodes = explained({
    endpoints: [
      { ...here, hints: { forNodes: [{ name: 'node-a' }] } },
      { ...there, hints: { forNodes: [{ name: 'node-b' }] } },
    ],
  });
  t.equal(nodes.topology, 'sameNode');
  t.same(endpoint(nodes, '10.244.2.1').leftOut, { internal: 'hinted for node node-b' });
});

t.test('shares of each kind of traffic add up to 100 %', async (t) => {
  const endpoints = Array.from({ length: 7 }, (_, i) => ({ addresses: [`10.244.1.${i}`], nodeName: 'node-a' }));
  const port = explained({ spec: { ...NODE_PORT, externalTrafficPolicy: 'Local' }, endpoints: [...endpoints, there] });
  for (const { kind } of port.traffic) {
    const sum = port.endpoints.reduce((total, { shares }) => total + (shares[kind] ?? 0), 0);
    t.ok(Math.abs(sum - 100) < 1e-9, `${kind}: ${sum}`);
  }
});
