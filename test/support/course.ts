// What a course on Services builds, and who reaches what of it: from a pod, the node and outside, of either family, with the
// source address that the server sees. The same in every mode but where a test says so.
import type { Test } from 'tap';
import type { Attempt, Proto } from './host-calls.ts';
import { type Raw, rawService, rawSlice } from './kube-objects.ts';
import { NODE_IPS } from './network.ts';
import { NODE_NAME } from './running-agent.ts';
import { CLIENT_IP, PODS, podIp, podIp6, type TestNode } from './test-node.ts';

export const IP = '10.96.45.123';
export const DNS = '10.96.0.10';
export const IP6 = 'fd00:10:96::80';
export const LIMITED = '198.18.0.10';
export const LOCAL = '198.18.0.11';
export const EXTERNAL = '198.18.9.5';
export const LIMITED6 = '2001:db8:18::10';
export const NODE_PORT = 30080;
const LOCAL_NODE_PORT = 30081;
const here = (n: number, ip: (n: number) => string = podIp): Raw => ({ addresses: [ip(n)], nodeName: NODE_NAME });
const three = (ip: (n: number) => string): Raw[] => [ip(1), here(2, ip), ip(3)];
const balanced = (ip: string, ...sourceRanges: string[]): Raw => ({
  type: 'LoadBalancer',
  loadBalancerSourceRanges: sourceRanges,
  status: { loadBalancer: { ingress: [{ ip }] } },
});
const v6 = { ipFamilies: ['IPv6'] };

/** A Service whose status names its load balancer IP. */
function loadBalancer(name: string, clusterIP: string, vip: string, spec: Raw): Raw {
  const { status, ...rest } = balanced(vip);
  return { ...rawService(name, { clusterIP, clusterIPs: [clusterIP], ...rest, ...spec }), status };
}

export const courseObjects = [
  rawService('web', {
    type: 'NodePort',
    clusterIP: IP,
    clusterIPs: [IP],
    externalIPs: [EXTERNAL],
    ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: NODE_PORT }],
  }),
  rawSlice('web-1', 'web', three(podIp)),
  rawService('dns', {
    clusterIP: DNS,
    clusterIPs: [DNS],
    sessionAffinity: 'ClientIP',
    ports: [{ name: 'dns', protocol: 'UDP', port: 53 }],
  }),
  rawSlice('dns-1', 'dns', three(podIp), { ports: [{ name: 'dns', protocol: 'UDP', port: 8080 }] }),
  loadBalancer('limited', '10.96.0.30', LIMITED, { loadBalancerSourceRanges: [`${CLIENT_IP}/32`] }),
  rawSlice('limited-1', 'limited', three(podIp)),
  loadBalancer('local', '10.96.0.31', LOCAL, {
    externalTrafficPolicy: 'Local',
    healthCheckNodePort: 32000,
    ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: LOCAL_NODE_PORT }],
  }),
  rawSlice('local-1', 'local', three(podIp)),
  rawService('empty', { clusterIP: '10.96.0.81', clusterIPs: ['10.96.0.81'] }),
  rawService('web6', {
    type: 'NodePort',
    clusterIP: IP6,
    clusterIPs: [IP6],
    ...v6,
    ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: 30060 }],
  }),
  rawSlice('web6-1', 'web6', three(podIp6), { addressType: 'IPv6' }),
  rawService('dns6', {
    clusterIP: 'fd00:10:96::a',
    clusterIPs: ['fd00:10:96::a'],
    ...v6,
    ports: [{ name: 'dns', protocol: 'UDP', port: 53 }],
  }),
  rawSlice('dns6-1', 'dns6', three(podIp6), {
    addressType: 'IPv6',
    ports: [{ name: 'dns', protocol: 'UDP', port: 8080 }],
  }),
  loadBalancer('limited6', 'fd00:10:96::30', LIMITED6, { ...v6, loadBalancerSourceRanges: ['2001:db8:113::/48'] }),
  rawSlice('limited6-1', 'limited6', three(podIp6), { addressType: 'IPv6' }),
];

/** Which server saw which source: `own` of the client, `node`, another address; or how the attempts ended. */
export interface Expected {
  readonly hosts: readonly string[];
  readonly source: 'own' | 'node' | string;
}
const ALL = PODS.slice(0, 3);
export const own: Expected = { hosts: ALL, source: 'own' };
export const masqueraded: Expected = { hosts: ALL, source: 'node' };
export const LOCAL_ONLY: Expected = { hosts: ['pod-2'], source: 'own' };

export type Probe = readonly [
  from: string,
  proto: Proto,
  ip: string,
  port: number,
  expected: Expected | Attempt['outcome'],
];

/** The same in every mode. */
export const courseProbes: readonly Probe[] = [
  // Pod 4 has no part in any Service; pod 1 is behind another router, as a pod of another node.
  ['pod-4', 'TCP', IP, 80, own],
  ['client', 'TCP', IP, 80, masqueraded],
  ['node', 'TCP', IP, 80, masqueraded],
  ['pod-4', 'UDP', DNS, 53, { hosts: [], source: 'own' }],
  ['client', 'UDP', DNS, 53, { hosts: [], source: 'node' }],
  ['node', 'UDP', DNS, 53, { hosts: [], source: 'node' }],
  ['client', 'TCP', NODE_IPS[0]!, NODE_PORT, masqueraded],
  ['pod-4', 'TCP', NODE_IPS[0]!, NODE_PORT, masqueraded],
  ['node', 'TCP', NODE_IPS[0]!, NODE_PORT, masqueraded],
  ['client', 'TCP', EXTERNAL, 80, masqueraded],
  ['pod-4', 'TCP', EXTERNAL, 80, masqueraded],
  ['node', 'TCP', EXTERNAL, 80, masqueraded],
  ['client', 'TCP', LIMITED, 80, masqueraded],
  ['pod-4', 'TCP', LIMITED, 80, 'timeout'],
  ['node', 'TCP', LIMITED, 80, 'timeout'],
  ['client', 'TCP', LOCAL, 80, LOCAL_ONLY],
  ['client', 'TCP', NODE_IPS[0]!, LOCAL_NODE_PORT, LOCAL_ONLY],
  ['client', 'TCP', '10.96.0.81', 80, 'refused'],
  ['pod-4', 'TCP', '10.96.0.81', 80, 'refused'],
  ['node', 'TCP', '10.96.0.81', 80, 'refused'],
  ['client', 'TCP', IP, 81, 'refused'],
  ['pod-4', 'TCP', IP, 81, 'refused'],
  ['node', 'TCP', IP, 81, 'refused'],
  ['pod-4', 'UDP', IP, 80, 'refused'],
  ['pod-4', 'TCP', IP6, 80, own],
  ['client', 'TCP', IP6, 80, masqueraded],
  ['node', 'TCP', IP6, 80, masqueraded],
  ['client', 'TCP', NODE_IPS[1]!, 30060, masqueraded],
  ['client', 'UDP', 'fd00:10:96::a', 53, masqueraded],
  ['pod-4', 'UDP', 'fd00:10:96::a', 53, own],
  ['client', 'TCP', LIMITED6, 80, 'timeout'],
  ['client', 'TCP', IP6, 81, 'refused'],
];

/** Makes a probe with six connections, one after the other. `chosen`: servers take turns, so that all are met, or chance decides. */
export async function probe(
  t: Test,
  node: TestNode,
  [from, proto, ip, port, expected]: Probe,
  chosen: 'in turn' | 'by chance',
): Promise<void> {
  const what = `${from} → ${proto} ${ip} ${port}`;
  const host = node.net.host(from);
  const family = ip.includes(':') ? 'IPv6' : 'IPv4';
  if (typeof expected === 'string') {
    // Those that answer do so much sooner.
    const { outcome } = await host.dial({ proto, ip, port, ...(expected === 'timeout' && { timeoutMs: 300 }) });
    t.equal(outcome, expected, `${what}: ${expected}`);
    return;
  }
  const answers = await host.call('connect', { proto, ip, port, count: 6 });
  const hosts = new Set(answers.map((a) => (a.outcome === 'answered' ? a.host : a.outcome)));
  if (expected.hosts.length > 0) {
    const met = chosen === 'in turn' ? expected.hosts : expected.hosts.filter((name) => hosts.has(name));
    t.strictSame([...hosts].sort(), met, `${what}: its servers`);
  } else t.equal(hosts.size, 1, `${what}: always the same server, ${[...hosts]}`);
  const nodeIp = NODE_IPS.find((nodeIp) => nodeIp.includes(':') === (family === 'IPv6'))!;
  const source = { own: host.ip(family), node: nodeIp }[expected.source] ?? expected.source;
  for (const answer of answers) {
    if (answer.outcome !== 'answered' || answer.peer !== source)
      t.match(answer, { outcome: 'answered', peer: source }, what);
  }
  t.pass(`${what}: the server sees ${source}`);
}
