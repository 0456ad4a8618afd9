// Broken Services: what is left of them and which Problems they give.
import t from 'tap';
import { parseService, type Service } from '../../agent/state/objects.ts';
import { type Raw, rawService } from '../support/kube-objects.ts';

interface Case {
  name: string;
  raw: Raw;
  /** Fields of the Problems, in order. */
  problems: string[];
  /** What must hold of the Service; null: dropped. */
  left: ((service: Service) => unknown) | null;
}

const port = (fields: Raw) => rawService('web', { ports: [fields, { name: 'good', port: 81 }] });
const goodOnly = (service: Service) => service.ports.length === 1 && service.ports[0]!.name === 'good';
const both = (service: Service) => service.ports.length === 2;
const lb = (...ingress: Raw[]) => ({
  ...rawService('web', { type: 'LoadBalancer' }),
  status: { loadBalancer: { ingress } },
});
const noIPs = (service: Service) => service.loadBalancerIPs.IPv4.length === 0 && service.externalIPs.IPv4.length === 0;

const cases: Case[] = [
  { name: 'no object', raw: 'x', problems: [''], left: null },
  { name: 'null', raw: null, problems: [''], left: null },
  { name: 'a list', raw: [], problems: [''], left: null },
  { name: 'no metadata', raw: { spec: {} }, problems: ['metadata.name'], left: null },
  { name: 'name is a number', raw: rawService('web', {}, { name: 5 }), problems: ['metadata.name'], left: null },
  { name: 'empty name', raw: rawService(''), problems: ['metadata.name'], left: null },
  { name: 'overlong name', raw: rawService('a'.repeat(64)), problems: ['metadata.name'], left: null },
  { name: 'name with control characters', raw: rawService('a\n\u001b[31m'), problems: ['metadata.name'], left: null },
  {
    name: 'namespace missing',
    raw: rawService('web', {}, { namespace: null }),
    problems: ['metadata.namespace'],
    left: null,
  },
  { name: 'spec missing', raw: { metadata: { namespace: 'shop', name: 'web' } }, problems: ['spec'], left: null },
  { name: 'clusterIP is a number', raw: rawService('web', { clusterIP: 7 }), problems: ['spec.clusterIP'], left: null },
  {
    name: 'labels are a list',
    raw: rawService('web', {}, { labels: [] }),
    problems: ['metadata.labels'],
    left: (s) => s.ports.length === 1,
  },
  {
    name: 'clusterIPs garbage',
    raw: rawService('web', { clusterIPs: ['10.96.0.256'] }),
    problems: ['spec.clusterIPs[0]'],
    left: (s) => s.clusterIP.IPv4 === null && s.clusterIP.IPv6 === null,
  },
  {
    name: 'clusterIPs contradict ipFamilies, the other family is fine',
    raw: rawService('web', { ipFamilies: ['IPv6', 'IPv4'], clusterIPs: ['10.96.0.2', '10.96.0.1'] }),
    problems: ['spec.clusterIPs[0]'],
    left: (s) => s.clusterIP.IPv6 === null && s.clusterIP.IPv4 === '10.96.0.1',
  },
  {
    name: 'clusterIPs shorter than ipFamilies',
    raw: rawService('web', { ipFamilies: ['IPv4', 'IPv6'] }),
    problems: [],
    left: (s) => s.clusterIP.IPv6 === null && s.clusterIP.IPv4 === '10.96.0.1',
  },
  {
    name: 'unknown IP family',
    raw: rawService('web', { ipFamilies: ['IPv5', 'IPv4'], clusterIPs: ['x', '10.96.0.1'] }),
    problems: ['spec.ipFamilies[0]'],
    left: (s) => s.clusterIP.IPv4 === '10.96.0.1',
  },
  ...['127.0.0.1', '224.0.0.1', '0.0.0.0'].map((ip) => ({
    name: `cluster IP ${ip}`,
    raw: rawService('web', { clusterIP: ip, clusterIPs: [ip] }),
    problems: ['spec.clusterIPs[0]'],
    left: (s: Service) => s.clusterIP.IPv4 === null,
  })),
  {
    name: 'external IPs: garbage, unusable ones, twice the same',
    raw: rawService('web', {
      externalIPs: ['x', '127.0.0.1', 5, null, '198.18.9.5', '198.018.09.05', 'ff02::1', '::', '::1'],
    }),
    problems: [0, 1, 2, 3, 6, 7, 8].map((i) => `spec.externalIPs[${i}]`),
    left: (s) => s.externalIPs.IPv4.join() === '198.18.9.5' && s.externalIPs.IPv6.length === 0,
  },
  {
    name: 'external IPs no list',
    raw: rawService('web', { externalIPs: 'x' }),
    problems: ['spec.externalIPs'],
    left: noIPs,
  },
  {
    name: 'load balancer IP garbage',
    raw: lb({ ip: '1.2.3' }, { ip: '127.1.1.1' }, { ip: 5 }, 'x', { hostname: 'a' }, { ip: '' }),
    problems: [3, 0, 1, 2].map((i) => `status.loadBalancer.ingress[${i}]${i === 3 ? '' : '.ip'}`),
    left: noIPs,
  },
  {
    name: 'unknown ipMode',
    raw: lb({ ip: '198.18.0.1', ipMode: 'Magic' }),
    problems: ['status.loadBalancer.ingress[0].ipMode'],
    left: noIPs,
  },
  { name: 'status is text', raw: { ...rawService('web'), status: 'up' }, problems: ['status'], left: noIPs },
  {
    name: 'ingress is an object',
    raw: { ...rawService('web'), status: { loadBalancer: { ingress: {} } } },
    problems: ['status.loadBalancer.ingress'],
    left: noIPs,
  },
  { name: 'port 0', raw: port({ port: 0 }), problems: ['spec.ports[0].port'], left: goodOnly },
  { name: 'port 65536', raw: port({ port: 65536 }), problems: ['spec.ports[0].port'], left: goodOnly },
  { name: 'port -1', raw: port({ port: -1 }), problems: ['spec.ports[0].port'], left: goodOnly },
  { name: 'port 80.5', raw: port({ port: 80.5 }), problems: ['spec.ports[0].port'], left: goodOnly },
  { name: 'port is text', raw: port({ port: '80' }), problems: ['spec.ports[0].port'], left: goodOnly },
  { name: 'port missing', raw: port({ name: 'a' }), problems: ['spec.ports[0].port'], left: goodOnly },
  { name: 'port entry null', raw: port(null), problems: ['spec.ports[0]'], left: goodOnly },
  {
    name: 'unknown protocol',
    raw: port({ port: 80, protocol: 'tcp' }),
    problems: ['spec.ports[0].protocol'],
    left: goodOnly,
  },
  {
    name: 'port name overlong',
    raw: port({ port: 80, name: 'a'.repeat(64) }),
    problems: ['spec.ports[0].name'],
    left: goodOnly,
  },
  { name: 'port name is a list', raw: port({ port: 80, name: [] }), problems: ['spec.ports[0].name'], left: goodOnly },
  { name: 'null protocol and name', raw: port({ port: 80, protocol: null, name: null }), problems: [], left: both },
  {
    name: 'two ports with one number',
    raw: rawService('web', {
      ports: [
        { name: 'good', port: 81 },
        { name: 'b', port: 81 },
      ],
    }),
    problems: ['spec.ports[1].port'],
    left: goodOnly,
  },
  {
    name: 'two ports with one name',
    raw: rawService('web', {
      ports: [
        { name: 'good', port: 81 },
        { name: 'good', port: 82 },
      ],
    }),
    problems: ['spec.ports[1].name'],
    left: (s) => goodOnly(s) && s.ports[0]!.port === 81,
  },
  {
    name: 'ports is an object',
    raw: rawService('web', { ports: {} }),
    problems: ['spec.ports'],
    left: (s) => s.ports.length === 0,
  },
  {
    name: 'node port out of range: the port stays',
    raw: port({ port: 80, nodePort: 70000 }),
    problems: ['spec.ports[0].nodePort'],
    left: (s) => both(s) && s.ports[0]!.nodePort === 0,
  },
  {
    name: 'type unknown',
    raw: rawService('web', { type: 'Mystery' }),
    problems: ['spec.type'],
    left: (s) => s.ports.length === 1,
  },
  {
    name: 'policies unknown',
    raw: rawService('web', { internalTrafficPolicy: 'local', externalTrafficPolicy: 1 }),
    problems: ['spec.internalTrafficPolicy', 'spec.externalTrafficPolicy'],
    left: (s) => !s.internalLocal && !s.externalLocal,
  },
  {
    name: 'affinity timeout out of range',
    raw: rawService('web', {
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: -5 } },
    }),
    problems: ['spec.sessionAffinityConfig.clientIP.timeoutSeconds'],
    left: (s) => s.affinitySeconds === 10800,
  },
  {
    name: 'affinity configuration is text',
    raw: rawService('web', { sessionAffinity: 'ClientIP', sessionAffinityConfig: 'x' }),
    problems: ['spec.sessionAffinityConfig'],
    left: (s) => s.affinitySeconds === 10800,
  },
  {
    name: 'affinity unknown',
    raw: rawService('web', { sessionAffinity: 'Cookie' }),
    problems: ['spec.sessionAffinity'],
    left: (s) => s.affinitySeconds === null,
  },
  {
    name: 'source ranges garbage',
    raw: rawService('web', { loadBalancerSourceRanges: ['10.0.0.0/33', null, '10.0.0.0/8', '10.1.0.0/8'] }),
    problems: ['spec.loadBalancerSourceRanges[0]', 'spec.loadBalancerSourceRanges[1]'],
    left: (s) => s.sourceRanges.IPv4.join() === '10.0.0.0/8',
  },
  {
    name: 'health check port out of range',
    raw: rawService('web', { type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort: 1e9 }),
    problems: ['spec.healthCheckNodePort'],
    left: (s) => s.healthCheckNodePort === 0 && s.externalLocal,
  },
];

for (const { name, raw, problems, left } of cases) {
  t.test(name, async (t) => {
    const parsed = parseService(JSON.parse(JSON.stringify(raw)));
    t.same(
      parsed.problems.map((problem) => problem.field),
      problems,
    );
    if (left === null) t.equal(parsed.object, null);
    else t.ok(parsed.object !== null && left(parsed.object), JSON.stringify(parsed.object));
    for (const { object, message } of parsed.problems) {
      t.match(object, /^Service [\x21-\x7e…]+$/);
      t.notOk(/[^\x20-\x7e…]/.test(message), 'nothing unprintable in the message');
      t.ok(message.length < 200);
    }
  });
}

t.test('what is not selected is no Problem', async (t) => {
  const unselected = [
    rawService('web', { clusterIP: 'None' }),
    rawService('web', { clusterIP: '' }),
    rawService('web', { clusterIP: null }),
    rawService('web', { type: 'ExternalName', externalName: 5, ports: 'x' }),
    rawService('web', {}, { labels: { 'service.kubernetes.io/service-proxy-name': 'other' } }),
  ];
  for (const raw of unselected) t.match(parseService(raw), { object: null, problems: { length: 0 } });
});

t.test('one object has a bounded number of Problems', async (t) => {
  const { problems } = parseService(rawService('web', { externalIPs: new Array(1000).fill('x') }));
  t.equal(problems.length, 21);
  t.match(problems.at(-1), { object: 'Service shop/web', message: 'and 980 more problems' });
});

t.test('an IPv4-mapped address counts as IPv4 (E-14)', async (t) => {
  const { object, problems } = parseService(rawService('web', { externalIPs: ['::ffff:198.18.9.5'] }));
  t.same(object?.externalIPs, { IPv4: ['198.18.9.5'], IPv6: [] });
  t.same(problems, []);
});
