// Which virtual servers, addresses and elements a Service needs, for every kind of frontend and policy.
import t from 'tap';
import { COMPANION_SETS, type CompanionSet } from '../../../backends/ipvs/companion-schema.ts';
import { serviceObjects } from '../../../backends/ipvs/service-objects.ts';
import { fieldsText } from '../../../backends/nft-table/fields.ts';
import type { Frontend, NodeSettings, ServicePlan, ServicePortPlan } from '../../../backends/service-plan.ts';
import { endpoint, portPlan, SETTINGS, servicePlan } from '../../support/plans.ts';

const POD = endpoint('10.128.4.7', 8080, true);
const FAR = endpoint('10.128.7.7');
const EXTERNAL_IP: Frontend = { kind: 'externalIP', ip: '198.18.9.5', port: 80 };
const VIP: Frontend = { kind: 'loadBalancer', ip: '198.18.0.10', port: 80 };
const OTHER_VIP: Frontend = { kind: 'loadBalancer', ip: '198.18.0.11', port: 80 };
const NODE_PORT: Frontend = { kind: 'nodePort', ip: null, port: 30080 };

interface Given {
  scheduler?: string;
  plan?: Partial<ServicePlan>;
  nodePortAddresses?: 'all' | readonly string[];
  hostAddresses?: readonly string[];
}

function objectsOf(ports: Partial<ServicePortPlan>[], given: Given = {}) {
  const plan = {
    ...servicePlan(
      'web',
      ports.map((port) => portPlan(port)),
    ),
    ...given.plan,
  };
  const { nodePortAddresses = ['192.0.2.11'], hostAddresses = ['192.0.2.11'] } = given;
  const family = { ...SETTINGS.families[plan.family]!, nodePortAddresses, hostAddresses };
  const settings: NodeSettings = { ...SETTINGS, families: { [plan.family]: family } };
  return serviceObjects(plan, settings, { scheduler: given.scheduler ?? 'rr' });
}

/** Everything of a Service as sorted lines. */
function lines(port: Partial<ServicePortPlan>, given?: Given): string[] {
  const { servers, addresses, elements } = objectsOf([port], given);
  const family = given?.plan?.family ?? 'IPv4';
  const out = [...servers].map(([key, { server, endpoints }]) => {
    const { scheduler, flags, timeoutSeconds } = server;
    return `server ${key} ${scheduler} ${flags} ${timeoutSeconds}: ${endpoints.map((e) => e.key).join(', ')}`;
  });
  out.push(...[...addresses].map((ip) => `address ${ip}`));
  for (const [set, own] of elements) {
    const text = (bytes: string) => fieldsText(bytes, COMPANION_SETS[set as CompanionSet], family).join(' ');
    for (const [at, { key, keyEnd, comment, data }] of own) {
      t.equal(at, key);
      t.equal(data, undefined);
      out.push(`${set}: ${text(key)}${keyEnd ? ` - ${text(keyEnd)}` : ''}${comment ? ` (${comment})` : ''}`);
    }
  }
  return out.sort();
}

t.test('a cluster IP', async (t) => {
  t.same(lines({ cluster: [POD, FAR], portName: 'http' }), [
    'address 10.96.0.1',
    'cluster: 10.96.0.1 tcp 80 (shop/web:http)',
    'hairpin: 10.128.4.7 10.128.4.7 tcp 8080',
    'server TCP 10.96.0.1:80 rr 0 0: 10.128.4.7:8080, 10.128.7.7:8080',
    'vips: 10.96.0.1',
  ]);
});

t.test('internalTrafficPolicy Local: local endpoints, or all if there are none (S-90)', async (t) => {
  const server = (port: Partial<ServicePortPlan>) =>
    lines({ ...port, internalLocal: true }).filter((l) => /^server/.test(l));
  t.same(server({ cluster: [POD, FAR], local: [POD] }), ['server TCP 10.96.0.1:80 rr 0 0: 10.128.4.7:8080']);
  t.same(server({ cluster: [FAR], local: [] }), ['server TCP 10.96.0.1:80 rr 0 0: 10.128.7.7:8080']);
  t.same(server({ hasEndpoints: true }), ['server TCP 10.96.0.1:80 rr 0 0: ']);
});

t.test('externalTrafficPolicy Cluster: masqueraded', async (t) => {
  t.same(lines({ frontends: [EXTERNAL_IP, VIP, NODE_PORT], cluster: [FAR] }), [
    'address 198.18.0.10',
    'address 198.18.9.5',
    'masq: 198.18.0.10 tcp 80 (shop/web)',
    'masq: 198.18.9.5 tcp 80 (shop/web)',
    'node-masq: tcp 30080 (shop/web)',
    'server TCP 192.0.2.11:30080 rr 0 0: 10.128.7.7:8080',
    'server TCP 198.18.0.10:80 rr 0 0: 10.128.7.7:8080',
    'server TCP 198.18.9.5:80 rr 0 0: 10.128.7.7:8080',
    'vips: 198.18.0.10',
    'vips: 198.18.9.5',
  ]);
});

t.test('externalTrafficPolicy Local: not masqueraded, local endpoints or all if there are none (S-91)', async (t) => {
  const port = { frontends: [EXTERNAL_IP, VIP, NODE_PORT], externalLocal: true, onNode: [] };
  const direct = ['direct: 198.18.0.10 tcp 80 (shop/web)', 'direct: 198.18.9.5 tcp 80 (shop/web)'];
  const servers = (to: string) =>
    ['192.0.2.11:30080', '198.18.0.10:80', '198.18.9.5:80'].map((at) => `server TCP ${at} rr 0 0: ${to}`);
  const rest = ['vips: 198.18.0.10', 'vips: 198.18.9.5'];
  const addresses = ['address 198.18.0.10', 'address 198.18.9.5'];
  t.same(lines({ ...port, cluster: [POD, FAR], local: [POD] }), [
    ...addresses,
    ...direct,
    ...servers('10.128.4.7:8080'),
    ...rest,
  ]);
  t.same(lines({ ...port, cluster: [FAR] }), [...addresses, ...direct, ...servers('10.128.7.7:8080'), ...rest]);
});

t.test('each policy is of its own kind of frontend', async (t) => {
  const frontends: Frontend[] = [{ kind: 'clusterIP', ip: '10.96.0.1', port: 80 }, EXTERNAL_IP];
  const { servers } = objectsOf([{ frontends, cluster: [POD, FAR], local: [POD], externalLocal: true }]);
  t.equal(servers.get('TCP 10.96.0.1:80')?.endpoints.length, 2);
  t.equal(servers.get('TCP 198.18.9.5:80')?.endpoints.length, 1);
});

t.test('external addresses of the host are not bound, cluster IPs are (V-7)', async (t) => {
  const frontends: Frontend[] = [{ kind: 'clusterIP', ip: '10.96.0.1', port: 80 }, EXTERNAL_IP, VIP];
  const { addresses, elements, servers } = objectsOf([{ frontends }], {
    hostAddresses: ['198.18.9.5', '198.18.0.10', '10.96.0.1'],
  });
  t.same([...addresses], ['10.96.0.1']);
  t.equal(elements.get('vips')?.size, 1);
  t.equal(elements.get('masq')?.size, 2);
  t.equal(servers.size, 3);
});

t.test('affinity and the mh scheduler (V-11)', async (t) => {
  const server = (affinitySeconds: number | null, scheduler: string) => {
    const own = objectsOf([{ affinitySeconds }], { scheduler }).servers.get('TCP 10.96.0.1:80')!.server;
    return [own.scheduler, own.flags, own.timeoutSeconds];
  };
  t.same(server(null, 'rr'), ['rr', 0, 0]);
  t.same(server(10_800, 'wlc'), ['wlc', 1, 10_800]);
  t.same(server(null, 'mh'), ['mh', 0x10, 0]);
  t.same(server(300, 'mh'), ['mh', 0x11, 300]);
  t.same(server(300, 'sh'), ['sh', 1, 300]);
});

t.test('source ranges of a load balancer IP, merged; itself with the node (S-42)', async (t) => {
  const port = { frontends: [EXTERNAL_IP, VIP, OTHER_VIP], sourceRanges: ['203.0.113.0/25', '203.0.113.64/26'] };
  const limits = (more: Partial<ServicePortPlan>) =>
    lines({ ...port, ...more }).filter((l) => /^(limited|sources)/.test(l));
  t.same(limits({ sourcesIncludeNode: true }), [
    'limited: 198.18.0.10 tcp 80 (shop/web)',
    'limited: 198.18.0.11 tcp 80 (shop/web)',
    'sources: 198.18.0.10 tcp 80 198.18.0.10 - 198.18.0.10 tcp 80 198.18.0.10',
    'sources: 198.18.0.10 tcp 80 203.0.113.0 - 198.18.0.10 tcp 80 203.0.113.127',
    'sources: 198.18.0.11 tcp 80 198.18.0.11 - 198.18.0.11 tcp 80 198.18.0.11',
    'sources: 198.18.0.11 tcp 80 203.0.113.0 - 198.18.0.11 tcp 80 203.0.113.127',
  ]);
  t.equal(limits({}).length, 4);
  t.same(limits({ sourceRanges: [] }), []);
});

t.test('an address of two kinds is served as the first, and filtered as a load balancer IP (S-46)', async (t) => {
  const both: Frontend[] = [{ ...EXTERNAL_IP, ip: '198.18.0.10' }, VIP];
  t.same(lines({ frontends: both, sourceRanges: ['203.0.113.0/25'], cluster: [FAR] }), [
    'address 198.18.0.10',
    'limited: 198.18.0.10 tcp 80 (shop/web)',
    'masq: 198.18.0.10 tcp 80 (shop/web)',
    'server TCP 198.18.0.10:80 rr 0 0: 10.128.7.7:8080',
    'sources: 198.18.0.10 tcp 80 203.0.113.0 - 198.18.0.10 tcp 80 203.0.113.127',
    'vips: 198.18.0.10',
  ]);
  const cluster: Frontend = { kind: 'clusterIP', ip: '198.18.9.5', port: 80 };
  const port = { frontends: [cluster, EXTERNAL_IP], cluster: [POD, FAR], local: [POD], externalLocal: true };
  const { servers, elements } = objectsOf([port]);
  t.equal(servers.get('TCP 198.18.9.5:80')?.endpoints.length, 2);
  t.same([...elements.keys()].sort(), ['cluster', 'hairpin', 'vips']);
});

t.test('a node port on every address; none, none (V-27)', async (t) => {
  const frontends: Frontend[] = [{ kind: 'clusterIP', ip: '10.96.0.1', port: 80 }, NODE_PORT];
  const many = objectsOf([{ frontends, protocol: 'SCTP' }], { nodePortAddresses: ['192.0.2.11', '198.51.100.11'] });
  t.same([...many.servers.keys()], ['SCTP 10.96.0.1:80', 'SCTP 192.0.2.11:30080', 'SCTP 198.51.100.11:30080']);
  t.same([...many.addresses], ['10.96.0.1']);
  const none = objectsOf([{ frontends }], { nodePortAddresses: [] });
  t.same([...none.servers.keys()], ['TCP 10.96.0.1:80']);
  t.notOk(none.elements.has('node-masq'));
  t.throws(() => objectsOf([{}], { nodePortAddresses: 'all' }), /each address of node ports/);
  t.throws(() => serviceObjects(servicePlan('web', []), { ...SETTINGS, families: {} }, { scheduler: 'rr' }), /IPv4/);
});

t.test('the health check node port (S-52, V-27)', async (t) => {
  const plan = { healthCheckNodePort: 32001 };
  const health = (ports: Partial<ServicePortPlan>[], nodePortAddresses: readonly string[]) => [
    ...(objectsOf(ports, { plan, nodePortAddresses }).elements.get('health')?.values() ?? []),
  ];
  const element = { key: '\x7d\x01', comment: 'shop/web' };
  t.same(health([{ frontends: [VIP, NODE_PORT] }], ['192.0.2.11']), [element]);
  t.same(health([{ frontends: [VIP, NODE_PORT] }], []), []);
  t.same(health([{ frontends: [VIP] }], []), [element]);
  t.same(health([{ frontends: [VIP, NODE_PORT] }, { frontends: [OTHER_VIP] }], []), [element]);
  t.notOk(objectsOf([{ frontends: [VIP] }]).elements.has('health'));
});

t.test('hairpin of every endpoint on the node, usable or not; not of broken ones (V-25, V-26)', async (t) => {
  const unready = { ...endpoint('10.128.4.8', 8080, true), ready: false };
  const { elements } = objectsOf([{ cluster: [FAR], onNode: [POD, unready, endpoint('10.128.4.9', 0, true)] }]);
  t.equal(elements.get('hairpin')?.size, 2);
});

t.test('IPv6', async (t) => {
  const frontends: Frontend[] = [{ kind: 'clusterIP', ip: 'fd00:10:96::1', port: 53 }, NODE_PORT];
  const pod = endpoint('fd00:10:128:4::7', 53, true);
  const given = { plan: { family: 'IPv6' as const }, nodePortAddresses: ['2001:db8:aa::11'] };
  t.same(lines({ frontends, cluster: [pod], protocol: 'UDP', affinitySeconds: 60 }, given), [
    'address fd00:10:96::1',
    'cluster: fd00:10:96::1 udp 53 (shop/web)',
    'hairpin: fd00:10:128:4::7 fd00:10:128:4::7 udp 53',
    'node-masq: udp 30080 (shop/web)',
    'server UDP [2001:db8:aa::11]:30080 rr 1 60: [fd00:10:128:4::7]:53',
    'server UDP [fd00:10:96::1]:53 rr 1 60: [fd00:10:128:4::7]:53',
    'vips: fd00:10:96::1',
  ]);
});
