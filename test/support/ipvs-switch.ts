// From ipvs mode to another one and back while clients connect: none is refused or lost, and nothing of the old mode is left.
import type { Test } from 'tap';
import type { ApiObject } from './api-store.ts';
import { clusterObjects } from './cluster.ts';
import { inVariant, NodeTools } from './iptables-node.ts';
import { IpvsNode, inIpvs } from './ipvs-node.ts';
import { rawService, rawSlice } from './kube-objects.ts';
import { type AgentOptions, NODE_NAME, type RunningAgent } from './running-agent.ts';
import { podIp, startTestNode, type TestNode } from './test-node.ts';
import { scaled, scaledRate } from './time-scale.ts';

const IP = '10.96.0.80';
const NODE_PORT = 30080;
const STANDING_PORT = 9000;
const STANDING_IP = '10.96.0.90';
const EMPTY_IP = '10.96.0.81';
const DOOR_IP = '10.96.0.82';

const objects: ApiObject[] = [
  rawService('web', { clusterIP: IP, clusterIPs: [IP] }),
  rawSlice('web-1', 'web', [podIp(1), { addresses: [podIp(4)], nodeName: NODE_NAME }]),
  // With an endpoint of its own: IPVS mixes up two connections from one address and port of a client to one endpoint.
  rawService('door', {
    type: 'NodePort',
    clusterIP: DOOR_IP,
    clusterIPs: [DOOR_IP],
    ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: NODE_PORT }],
  }),
  rawSlice('door-1', 'door', [podIp(3)]),
  rawService('standing', { clusterIP: STANDING_IP, clusterIPs: [STANDING_IP] }),
  rawSlice('standing-1', 'standing', [podIp(3), { addresses: [podIp(4)], nodeName: NODE_NAME }], {
    ports: [{ name: 'http', protocol: 'TCP', port: STANDING_PORT }],
  }),
  rawService('empty', { clusterIP: EMPTY_IP, clusterIPs: [EMPTY_IP] }),
  ...clusterObjects({ services: 20, endpointsPerService: 3 }),
];
/** Connections made in all, three in five of them from outside. */
const PER_SECOND = Number(process.env.SWITCH_CONNECTS ?? scaledRate(100));
/** None is an endpoint: an emulated CPU has not the time for both. */
const CLIENTS = ['client', 'pod-2', 'node'] as const;
const REMOVED = 'removed the rules of another mode';
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A mode that is not ipvs. */
export interface OtherMode {
  readonly name: string;
  readonly options: Partial<AgentOptions>;
  /** What is left of it on a node. */
  readonly leftovers: (node: TestNode) => string[];
}

const tablesOfOurs = (node: TestNode): string[] =>
  node
    .nft('list', 'tables')
    .split('\n')
    .filter((line) => / kubeplumb$/.test(line));
const chainsOfIptables = (node: TestNode): string[] => {
  const tools = new NodeTools(node.net, 'nft');
  // The kubelet may have KUBE-FIREWALL too, and ipvs mode KUBE-FORWARD: they stay.
  const all = [...tools.saved('IPv4'), ...tools.saved('IPv6')];
  return all.filter((line) => /^:KUBE-(?!FIREWALL|FORWARD)/.test(line));
};

export const NFTABLES: OtherMode = { name: 'nftables', options: { mode: 'nftables' }, leftovers: tablesOfOurs };
export const IPTABLES: OtherMode = { name: 'iptables', options: inVariant('nft'), leftovers: chainsOfIptables };

export async function switchThereAndBack(t: Test, other: OtherMode): Promise<void> {
  const node = await startTestNode(t, { objects });
  const ipvs = new IpvsNode(node.net);
  /** Starts an agent in another mode and waits until what the one before left is gone. */
  const switchTo = async (mode: Partial<AgentOptions>, leftovers: () => string[]): Promise<RunningAgent> => {
    const began = performance.now();
    const agent = node.agent(mode);
    await agent.ready();
    const ready = performance.now() - began;
    await agent.line('what the other mode left is removed', ({ msg }) => msg === REMOVED);
    const removed = performance.now() - began;
    t.comment(`rules in place after ${ready.toFixed(0)} ms, the old ones removed after ${removed.toFixed(0)} ms`);
    t.strictSame(leftovers(), [], 'nothing of the other mode is left');
    await pause(scaled(300));
    return agent;
  };
  let agent = node.agent(inIpvs());
  await agent.ready();
  t.strictSame(other.leftovers(node), []);

  for (const pod of [3, 4])
    await node.net.host(`pod-${pod}`).call('listen', { proto: 'TCP', ip: podIp(pod), port: STANDING_PORT });
  const stand = async (): Promise<[string, number][]> => {
    const flows: [string, number][] = [];
    for (const name of CLIENTS) {
      for (let i = 0; i < 2; i++) {
        const target = { proto: 'TCP', ip: STANDING_IP, port: 80 } as const;
        const { flow, first } = await node.net.host(name).call('open', target);
        t.equal(first.outcome, 'answered');
        flows.push([name, flow]);
      }
    }
    return flows;
  };
  /** How connections fare: `client answered`, sorted, each once. */
  const outcomes = async (flows: readonly [string, number][]): Promise<string[]> => {
    const said = flows.map(async ([name, flow]) => {
      const { outcome } = await node.net.host(name).call('say', { flow, timeoutMs: 500 });
      return `${name} ${outcome}`;
    });
    return [...new Set(await Promise.all(said))].sort();
  };
  const refused = async (): Promise<void> => {
    t.equal((await node.client.dial({ proto: 'TCP', ip: EMPTY_IP, port: 80 })).outcome, 'refused');
  };

  const loads: number[] = [];
  const targets = [
    { proto: 'TCP', ip: IP, port: 80 },
    { proto: 'TCP', ip: '172.18.0.2', port: NODE_PORT },
  ] as const;
  for (const name of CLIENTS) {
    const load = {
      targets: name === 'client' ? targets : targets.slice(0, 1),
      width: 64,
      perSecond: PER_SECOND * (name === 'client' ? 0.6 : 0.2),
      keepDetails: true,
    };
    loads.push((await node.net.host(name).call('startLoad', load)).load);
  }
  const throughIpvs = await stand();

  await agent.stop();
  agent = await switchTo(other.options, () => ipvs.leftovers());
  t.ok(other.leftovers(node).length > 0);
  await refused();
  t.comment(`connections through IPVS after the switch to ${other.name}: ${(await outcomes(throughIpvs)).join(', ')}`);
  const throughOther = await stand();

  await agent.stop();
  agent = await switchTo(inIpvs(), () => other.leftovers(node));
  t.ok(ipvs.count > 20 && ipvs.addresses()!.includes(IP));
  await refused();
  t.strictSame(
    await outcomes(throughOther),
    [...CLIENTS].sort().map((name) => `${name} answered`),
    `connections through ${other.name} go on in ipvs mode`,
  );

  for (const [i, name] of CLIENTS.entries()) {
    const { attempts, answered, results, details } = await node.net.host(name).call('stopLoad', { load: loads[i]! });
    t.ok(attempts > 50, `${name}: ${attempts} connections`);
    t.equal(answered, attempts, `${name}: no connection failed: ${JSON.stringify(results)}`);
    if (answered === attempts) continue;
    for (const [row, at] of details!.startedAt.entries()) {
      const text = details!.texts[details!.result[row]!]!;
      if (!text.includes(':'))
        t.comment(`${name}: ${text}, begun at ${at.toFixed(0)}, ${details!.tookMs[row]!.toFixed(0)} ms`);
    }
  }
  t.match(await agent.status(), { verdict: 'healthy', repairs: { count: 0 }, conditions: { length: 0 } });
}
