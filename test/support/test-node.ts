// A node with pods, a client outside, and an API server it can reach: what tests of the running agent stand on.
import type { Test } from 'tap';
import { TestApiServer, type TestApiServerOptions } from './api-server.ts';
import type { ApiObject } from './api-store.ts';
import { makeServiceCidr } from './cluster.ts';
import type { Host } from './host.ts';
import { rawNode } from './kube-objects.ts';
import { createNetwork, type Network, NODE_IPS } from './network.ts';
import { type AgentOptions, NODE_NAME, RunningAgent } from './running-agent.ts';
import { temporaryFolder } from './temporary-folder.ts';
import { scaled } from './time-scale.ts';

/** The pods; those with an even number run on the node. They listen on the ports a test asks for. */
export const PODS = ['pod-1', 'pod-2', 'pod-3', 'pod-4'] as const;
export const podIp = (n: number): string => `10.128.1.${n}`;
export const podIp6 = (n: number): string => `fd00:10:128:1::${n}`;
export const CLIENT_IP = '172.18.0.100';
export const CLIENT_IP6 = 'fd00:172:18::100';

export interface TestNodeOptions {
  /** TCP and UDP ports on which all pods listen. */
  readonly ports?: readonly number[];
  /** Pods and the client have IPv6 addresses too. */
  readonly dualStack?: boolean;
  readonly objects?: Iterable<ApiObject>;
  readonly server?: TestApiServerOptions;
}

export class TestNode {
  readonly net: Network;
  readonly server: TestApiServer;
  readonly client: Host;
  readonly agents: RunningAgent[] = [];
  /** Of the API server, the same after an outage. */
  port = 0;
  readonly #folder = temporaryFolder();

  constructor(net: Network, server: TestApiServer) {
    this.net = net;
    this.server = server;
    this.client = net.host('client');
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Lets the API server listen, again after an outage. */
  async serve(): Promise<void> {
    const url = await this.net.within('node', () => this.server.start(this.port, { everywhere: true }));
    this.port = Number(new URL(url).port);
  }

  /** Starts an agent on the API server. */
  agent(options: Partial<AgentOptions> = {}): RunningAgent {
    const agent = new RunningAgent({ net: this.net, folder: this.#folder, server: this.url, ...options });
    this.agents.push(agent);
    return agent;
  }

  async close(): Promise<void> {
    await Promise.all(this.agents.map((agent) => agent.stop('SIGKILL')));
    if (this.server.listening) await this.server.close();
    await this.net.close();
  }

  nft(...argv: string[]): string {
    return this.net.exec('node', ['nft', ...argv]);
  }
}

/** Makes the node; it goes with the test. Await namespacesMissing first. */
export async function startTestNode(t: Pick<Test, 'teardown'>, options: TestNodeOptions = {}): Promise<TestNode> {
  const { ports = [8080], objects = [], dualStack = false } = options;
  const both = (ip: string, ip6: string): string[] => (dualStack ? [ip, ip6] : [ip]);
  const net = await createNetwork({
    pods: PODS.map((name, i) => ({ name, ip: both(podIp(i + 1), podIp6(i + 1)), local: i % 2 === 1 })),
    clients: [{ name: 'client', ip: both(CLIENT_IP, CLIENT_IP6) }],
  });
  const node = new TestNode(net, new TestApiServer({ bookmarkEveryMs: 1000, ...options.server }));
  t.teardown(() => node.close());
  const listen = async (name: string): Promise<void> => {
    for (const ip of net.host(name).ips) {
      for (const port of ports) {
        await net.host(name).call('listen', { proto: 'TCP', ip, port, closes: true });
        await net.host(name).call('listen', { proto: 'UDP', ip, port });
      }
    }
  };
  await Promise.all(PODS.map(listen));
  node.server.store.load([ownNode(), makeServiceCidr()]);
  node.server.store.load(objects);
  await node.serve();
  return node;
}

function ownNode(): ApiObject {
  return { ...rawNode(NODE_NAME), status: { addresses: [{ type: 'InternalIP', address: NODE_IPS[0] }] } };
}

/** Waits until something holds. @throws Error after `limitMs` */
export async function until(what: string, holds: () => boolean | Promise<boolean>, limitMs = 15_000): Promise<void> {
  const deadline = performance.now() + scaled(limitMs);
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`never came true: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, scaled(5)));
  }
}
