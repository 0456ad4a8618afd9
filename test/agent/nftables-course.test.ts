// Who reaches what in nftables mode: from a pod, the node and outside, of either family, with the source address that the
// server sees; and what becomes of it when endpoints and the Service go.
import t from 'tap';
import {
  courseObjects,
  courseProbes,
  EXTERNAL,
  IP,
  LOCAL,
  masqueraded,
  own,
  type Probe,
  probe,
} from '../support/course.ts';
import type { Host } from '../support/host.ts';
import { rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { LAN, NODE_IPS } from '../support/network.ts';
import { CLUSTER_CIDR } from '../support/running-agent.ts';
import { podIp, startTestNode, until } from '../support/test-node.ts';

const missing = await namespacesMissing();
t.setTimeout(240_000);

/** Servers are chosen by chance: 40 connections miss one of three once in four million times. */
const COUNT = 40;

/** Where this mode differs: load balancer IPs with policy Local have all endpoints for pods and for the node. */
const probes: readonly Probe[] = [
  ['pod-4', 'TCP', LOCAL, 80, own],
  ['node', 'TCP', LOCAL, 80, masqueraded],
];

t.test('traffic', { skip: missing ?? false }, async (t) => {
  const node = await startTestNode(t, { objects: courseObjects, dualStack: true });
  const flags = [`--cluster-cidr=${CLUSTER_CIDR},fd00:10:128::/48`, `--nodeport-addresses=${LAN.IPv4},${LAN.IPv6}`];
  const agent = node.agent({ flags });
  await agent.ready();
  for (const one of [...courseProbes, ...probes]) await probe(t, node, one, 'by chance');

  /** The servers that answered, with the sources they saw; or how it ended. */
  const seen = async (host: Host): Promise<string[]> => {
    const answers = await host.call('connect', { proto: 'TCP', ip: IP, port: 80, count: COUNT });
    return [...new Set(answers.map((a) => (a.outcome === 'answered' ? `${a.host} saw ${a.peer}` : a.outcome)))].sort();
  };
  const hairpin = [`pod-1 saw ${podIp(2)}`, `pod-2 saw ${NODE_IPS[0]}`, `pod-3 saw ${podIp(2)}`];
  t.strictSame(await seen(node.net.host('pod-2')), hairpin, 'a pod that reaches itself is masqueraded');
  const health = await node.client.dial({ proto: 'TCP', ip: NODE_IPS[0]!, port: 32000, timeoutMs: 300 });
  t.not(health.outcome, 'refused', 'the health check node port listens');

  // An endpoint is deleted, then all.
  const { version } = node.server.store.put(rawSlice('web-1', 'web', [podIp(1), podIp(3)]));
  await agent.acknowledged(version);
  t.strictSame(
    await seen(node.client),
    ['pod-1', 'pod-3'].map((pod) => `${pod} saw ${NODE_IPS[0]}`),
  );
  const last = node.server.store.put(rawSlice('web-1', 'web', []));
  await agent.acknowledged(last.version);
  t.strictSame(await seen(node.client), ['refused']);
  node.server.store.delete('Service', 'shop', 'web');
  const outcome = async (ip: string): Promise<string> =>
    (await node.client.dial({ proto: 'TCP', ip, port: 80 })).outcome;
  await until("its external IP is nobody's", async () => (await outcome(EXTERNAL)) === 'unreachable');
  t.equal(await outcome(IP), 'timeout', 'its ClusterIP is dropped, as any of the Service CIDR that nobody has');
  t.match(await agent.status(), { verdict: 'healthy', mode: 'nftables', repairs: { count: 0 } });
});
