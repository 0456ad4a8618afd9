// What a course on Services shows with ipvsadm, and who reaches what in ipvs mode: from a pod, the node and outside, of
// either family, with the source address that the server sees.
import t from 'tap';
import {
  courseObjects,
  courseProbes,
  DNS,
  EXTERNAL,
  IP,
  IP6,
  LIMITED,
  LIMITED6,
  LOCAL,
  LOCAL_ONLY,
  NODE_PORT,
  type Probe,
  probe,
} from '../support/course.ts';
import { IpvsNode, inIpvs, ipvsMissing } from '../support/ipvs-node.ts';
import { rawSlice } from '../support/kube-objects.ts';
import { NODE_IPS } from '../support/network.ts';
import { CLUSTER_CIDR } from '../support/running-agent.ts';
import { podIp, podIp6, startTestNode, until } from '../support/test-node.ts';

const skip = await ipvsMissing();
t.setTimeout(240_000);

/** Where this mode differs: pods and the node are treated as what comes from outside. */
const probes: readonly Probe[] = [
  ['pod-4', 'TCP', LOCAL, 80, LOCAL_ONLY],
  ['node', 'TCP', LOCAL, 80, { hosts: ['pod-2'], source: LOCAL }],
];

t.test('ipvsadm and traffic', { skip }, async (t) => {
  const node = await startTestNode(t, { objects: courseObjects, dualStack: true });
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
    // One after the other: a virtual server gives real servers their turns whoever connects.
    for (const one of [...courseProbes, ...probes]) await probe(t, node, one, 'in turn');
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
