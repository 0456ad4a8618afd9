// A Service that answers on a test node, and connections to it while one proxy follows another.
import type { Test } from 'tap';
import type { ApiObject } from './api-store.ts';
import { rawService, rawSlice } from './kube-objects.ts';
import { type AgentOptions, NODE_NAME, type RunningAgent } from './running-agent.ts';
import { podIp, type TestNode } from './test-node.ts';
import { scaled, scaledRate } from './time-scale.ts';

export const IP = '10.96.0.80';
export const NODE_PORT = 30080;
/** Service shop/web on two pods, one of them here, and shop/empty at 10.96.0.81. */
export const web: ApiObject[] = [
  rawService('web', {
    type: 'NodePort',
    clusterIP: IP,
    clusterIPs: [IP],
    ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: NODE_PORT }],
  }),
  rawSlice('web-1', 'web', [podIp(1), { addresses: [podIp(2)], nodeName: NODE_NAME }]),
  rawService('empty', { clusterIP: '10.96.0.81', clusterIPs: ['10.96.0.81'] }),
];

/** Acts while a client, a pod and the node itself connect; checks that all of it worked. */
export async function underLoad<T>(t: Test, node: TestNode, act: () => Promise<T>): Promise<T> {
  const targets = [
    { proto: 'TCP', ip: IP, port: 80 },
    { proto: 'TCP', ip: '172.18.0.2', port: NODE_PORT },
  ] as const;
  const hosts = ['client', 'pod-2', 'node'] as const;
  const loads: number[] = [];
  for (const name of hosts) {
    const load = { targets: name === 'client' ? targets : targets.slice(0, 1), width: 64, perSecond: scaledRate(150) };
    loads.push((await node.net.host(name).call('startLoad', load)).load);
  }
  await pause(scaled(300));
  const result = await act();
  await pause(scaled(500));
  for (const [i, name] of hosts.entries()) {
    const { attempts, answered, results } = await node.net.host(name).call('stopLoad', { load: loads[i]! });
    t.ok(attempts > 80, `${name}: ${attempts} connections`);
    t.equal(answered, attempts, `${name}: no connection failed: ${JSON.stringify(results)}`);
  }
  return result;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
/** One word for an attempt from outside; those that cannot succeed end soon. */
export const outcome = async (node: TestNode, ip: string, port = 80): Promise<string> =>
  (await node.client.dial({ proto: 'TCP', ip, port, timeoutMs: 300 })).outcome;

export async function startAgent(node: TestNode, options: Partial<AgentOptions>): Promise<RunningAgent> {
  const agent = node.agent(options);
  await agent.ready();
  return agent;
}
