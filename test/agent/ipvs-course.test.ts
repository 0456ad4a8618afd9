// What a course on Services shows with ipvsadm, and who reaches what in ipvs mode: from a pod, the node and outside, of
// either family, with the source address that the server sees.
import t from 'tap';
import type { Attempt, Proto } from '../support/host-calls.ts';
import { IpvsNode, inIpvs, ipvsMissing } from '../support/ipvs-node.ts';
import { type Raw, rawService, rawSlice } from '../support/kube-objects.ts';
import { NODE_IPS } from '../support/network.ts';
import { CLUSTER_CIDR, NODE_NAME } from '../support/running-agent.ts';
import { CLIENT_IP, PODS, podIp, podIp6, startTestNode, until } from '../support/test-node.ts';

const skip = await ipvsMissing();
t.setTimeout(240_000);

const IP = '10.96.45.123';
const DNS = '10.96.0.10';
const IP6 = 'fd00:10:96::80';
const LIMITED = '198.18.0.10';
const LOCAL = '198.18.0.11';
const EXTERNAL = '198.18.9.5';
const LIMITED6 = '2001:db8:18::10';
const NODE_PORT = 30080;
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

const objects = [
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
interface Expected {
  readonly hosts: readonly string[];
  readonly source: 'own' | 'node' | string;
}
const ALL = PODS.slice(0, 3);
const own: Expected = { hosts: ALL, source: 'own' };
const masqueraded: Expected = { hosts: ALL, source: 'node' };
const LOCAL_ONLY: Expected = { hosts: ['pod-2'], source: 'own' };

type Probe = readonly [from: string, proto: Proto, ip: string, port: number, expected: Expected | Attempt['outcome']];

const probes: readonly Probe[] = [
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
  ['pod-4', 'TCP', LOCAL, 80, LOCAL_ONLY],
  ['node', 'TCP', LOCAL, 80, { hosts: ['pod-2'], source: LOCAL }],
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

t.test('ipvsadm and traffic', { skip }, async (t) => {
  const node = await startTestNode(t, { objects, dualStack: true });
  const ipvs = new IpvsNode(node.net);
  const agent = node.agent(inIpvs(`--cluster-cidr=${CLUSTER_CIDR},fd00:10:128::/48`));
  await agent.ready();

  // $ ipvsadm -Ln
  const listing = ipvs.listing();
  t.match(listing.slice(0, 3), [
    /^IP Virtual Server version 1\.2\.1 \(size=\d+\)$/,
    'Prot LocalAddress:Port Scheduler Flags',
    '-> RemoteAddress:Port Forward Weight ActiveConn InActConn',
  ]);
  const three8080 = [1, 2, 3].map((n) => `-> ${podIp(n)}:8080 Masq 1 0 0`);
  const sorted = (server: string): string[] => {
    const [first = '', ...rest] = ipvs.shown(server);
    return [first, ...rest.sort()];
  };
  t.strictSame(sorted(`TCP ${IP}:80`), [`TCP ${IP}:80 rr`, ...three8080]);
  t.match(ipvs.ipvsadm('-Ln'), `TCP  ${IP}:80 rr\n  -> `, 'with the blanks of the books');
  t.strictSame(sorted(`UDP ${DNS}:53`), [`UDP ${DNS}:53 rr persistent 10800`, ...three8080]);
  t.strictSame(sorted(`TCP [${IP6}]:80`), [
    `TCP [${IP6}]:80 rr`,
    ...[1, 2, 3].map((n) => `-> [${podIp6(n)}]:8080 Masq 1 0 0`),
  ]);
  t.strictSame(sorted(`TCP ${NODE_IPS[0]}:${NODE_PORT}`), [`TCP ${NODE_IPS[0]}:${NODE_PORT} rr`, ...three8080]);
  t.strictSame(ipvs.shown(`TCP ${LOCAL}:80`), [`TCP ${LOCAL}:80 rr`, `-> ${podIp(2)}:8080 Masq 1 0 0`]);
  t.strictSame(ipvs.shown('TCP 10.96.0.81:80'), ['TCP 10.96.0.81:80 rr'], 'no endpoints, no real servers');

  // $ ip addr show kube-ipvs0
  const addresses = [IP, DNS, '10.96.0.30', '10.96.0.31', '10.96.0.81', LIMITED, LOCAL, EXTERNAL];
  const addresses6 = [IP6, 'fd00:10:96::a', 'fd00:10:96::30', LIMITED6];
  t.strictSame(ipvs.addresses(), [...addresses, ...addresses6].sort(), 'all but those of the node');
  t.match(node.net.exec('node', ['ip', '-d', 'link', 'show', 'kube-ipvs0']), /state DOWN.*dummy /s);

  await t.test('traffic', async (t) => {
    const run = async ([from, proto, ip, port, expected]: Probe): Promise<void> => {
      const what = `${from} → ${proto} ${ip} ${port}`;
      const host = node.net.host(from);
      const family = ip.includes(':') ? 'IPv6' : 'IPv4';
      if (typeof expected === 'string') {
        t.equal((await host.dial({ proto, ip, port })).outcome, expected, `${what}: ${expected}`);
        return;
      }
      const answers = await host.call('connect', { proto, ip, port, count: 6 });
      const hosts = new Set(answers.map((a) => (a.outcome === 'answered' ? a.host : a.outcome)));
      if (expected.hosts.length > 0) t.strictSame([...hosts].sort(), expected.hosts, `${what}: all servers`);
      else t.equal(hosts.size, 1, `${what}: always the same server, ${[...hosts]}`);
      const nodeIp = NODE_IPS.find((nodeIp) => nodeIp.includes(':') === (family === 'IPv6'))!;
      const source = { own: host.ip(family), node: nodeIp }[expected.source] ?? expected.source;
      for (const answer of answers) {
        if (answer.outcome !== 'answered' || answer.peer !== source)
          t.match(answer, { outcome: 'answered', peer: source }, what);
      }
      t.pass(`${what}: the server sees ${source}`);
    };
    // One after the other: a virtual server gives real servers their turns whoever connects.
    for (const probe of probes) await run(probe);
    // A pod that reaches itself is masqueraded; it takes turns with the others.
    const self = await node.net.host('pod-2').call('connect', { proto: 'TCP', ip: IP, port: 80, count: 6 });
    const peers = self.flatMap((a) =>
      a.outcome === 'answered' ? [`${a.host} saw ${a.peer === podIp(2) ? 'pod-2' : 'another'}`] : [a.outcome],
    );
    t.strictSame([...new Set(peers)].sort(), ['pod-1 saw pod-2', 'pod-2 saw another', 'pod-3 saw pod-2']);
    const health = await node.net.host('client').dial({ proto: 'TCP', ip: NODE_IPS[0]!, port: 32000, timeoutMs: 300 });
    t.not(health.outcome, 'refused', 'the health check node port listens');
  });

  // An endpoint is deleted.
  const { version } = node.server.store.put(rawSlice('web-1', 'web', [podIp(1), podIp(3)]));
  await agent.acknowledged(version);
  const left = (server: string): string[] =>
    ipvs
      .realServers(server)
      .filter((r) => r.weight > 0)
      .map((r) => r.address);
  for (const server of [`TCP ${IP}:80`, `TCP ${EXTERNAL}:80`, `TCP ${NODE_IPS[0]}:${NODE_PORT}`])
    t.strictSame(left(server), [`${podIp(1)}:8080`, `${podIp(3)}:8080`], `${server}: two are left`);
  const again = await node.client.call('connect', { proto: 'TCP', ip: IP, port: 80, count: 6 });
  t.strictSame([...new Set(again.map((a) => (a.outcome === 'answered' ? a.host : a.outcome)))].sort(), [
    'pod-1',
    'pod-3',
  ]);

  // None is left; then the Service goes.
  const last = node.server.store.put(rawSlice('web-1', 'web', []));
  await agent.acknowledged(last.version);
  t.strictSame(left(`TCP ${IP}:80`), []);
  t.equal((await node.client.dial({ proto: 'TCP', ip: IP, port: 80 })).outcome, 'refused');
  node.server.store.delete('Service', 'shop', 'web');
  await until('the Service is gone', () => ipvs.shown(`TCP ${IP}:80`).length === 0);
  t.notOk(ipvs.addresses()!.includes(IP) || ipvs.addresses()!.includes(EXTERNAL), 'its addresses went with it');
  t.match(await agent.status(), { verdict: 'healthy', mode: 'ipvs', repairs: { count: 0 } });
});
