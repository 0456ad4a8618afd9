// The pods all checks share: three servers on two nodes, clients in pods, on nodes and outside; and making Services.
import type { Test } from 'tap';
import { FAMILIES, type Family } from '../native/ip.ts';
import {
  type Client,
  type Cluster,
  type ClusterNode,
  HTTP_PORT,
  ofFamily,
  type Pod,
  type PodSpec,
  type Service,
  UDP_PORT,
} from './cluster/cluster.ts';

const SERVERS = { app: 'server' };
/** Of documentation: no real host has them. One of each family for each Service that wants some. */
export const EXTERNAL_IPS = ['203.0.113.10', '2001:db8:e2e::10'] as const;
export const INGRESS_IPS = ['203.0.113.20', '2001:db8:e2e::20'] as const;

export interface StageOptions {
  readonly cluster: Cluster;
  readonly servers: readonly Pod[];
  readonly clients: readonly Client[];
  readonly newcomer: Client;
  readonly families: readonly Family[];
}

export class Stage {
  readonly cluster: Cluster;
  /** Two on the first node, one on the second (all on one when there is only one). Their names are what they answer. */
  readonly servers: readonly Pod[];
  readonly clients: readonly Client[];
  /**
   * A pod on the first node that asks Services only once they are known to answer there. A connection that is tried before
   * there are rules leaves a conntrack entry for two minutes, and one that gets the same port follows it past the rules.
   */
  readonly newcomer: Client;
  /** That pods have. */
  readonly families: readonly Family[];

  constructor({ cluster, servers, clients, newcomer, families }: StageOptions) {
    this.cluster = cluster;
    this.servers = servers;
    this.clients = clients;
    this.newcomer = newcomer;
    this.families = families;
  }

  /** The node with two servers, and the other one (the same in a cluster of one node). */
  get nodes(): readonly [ClusterNode, ClusterNode] {
    const [first, second = first] = this.cluster.nodes;
    return [first!, second!];
  }

  /** Names of the servers, all or those on a node. */
  names(node?: ClusterNode): string[] {
    return this.servers.filter((pod) => node === undefined || pod.node === node.name).map((pod) => pod.name);
  }

  client(kind: 'pod' | 'node', node: ClusterNode): Client | undefined {
    return this.clients.find((client) => client.kind === kind && client.node === node.name);
  }

  /** The client pod on a node. */
  pod(node: ClusterNode): Client {
    return this.client('pod', node)!;
  }

  get outside(): Client | undefined {
    return this.clients.find(({ kind }) => kind === 'outside');
  }

  /**
   * Makes a Service for the servers, ports 80 (`http`) and 81 (`udp`), removed with the test. `spec` is laid over.
   * @throws Error as the API server refused it
   */
  async service(t: Pick<Test, 'teardown'>, name: string, spec: Record<string, unknown> = {}): Promise<Service> {
    const object = {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name },
      spec: {
        selector: SERVERS,
        ipFamilyPolicy: 'PreferDualStack',
        ports: [
          { name: 'http', protocol: 'TCP', port: 80, targetPort: HTTP_PORT },
          { name: 'udp', protocol: 'UDP', port: 81, targetPort: UDP_PORT },
        ],
        ...spec,
      },
    };
    t.teardown(() => this.cluster.remove('Service', name));
    return (await this.cluster.apply(object)) as Service;
  }

  /** As service, with load balancer addresses, which are set at once. */
  async loadBalancer(t: Pick<Test, 'teardown'>, name: string, spec: Record<string, unknown> = {}): Promise<Service> {
    // A class of our own keeps other controllers away.
    const loadBalancerClass = 'kubeplumb.example/e2e';
    const service = await this.service(t, name, { type: 'LoadBalancer', loadBalancerClass, ...spec });
    const ips = INGRESS_IPS.filter((ip) => service.spec.clusterIPs?.some((c) => c.includes(':') === ip.includes(':')));
    await this.cluster.setIngress(name, ips);
    return service;
  }
}

/** Starts servers and clients. `note` is told what cannot be there. */
export async function setStage(cluster: Cluster, note: (text: string) => void): Promise<Stage> {
  const [first, second = first] = cluster.nodes;
  if (first === undefined || second === undefined) throw new Error('the cluster has no node that pods can run on');
  const nodes = [...new Set([first, second])];
  const servers = await cluster.startPods(
    [first, first, second].map((node, i): PodSpec => {
      const name = `server-${i + 1}`;
      return { name, node: node.name, labels: { ...SERVERS, pod: name, node: node.name } };
    }),
  );
  const clientPods = nodes.map(
    (node, i): PodSpec => ({ name: `client-${i + 1}`, node: node.name, labels: { app: 'client' } }),
  );
  const newcomerPod: PodSpec = { name: 'newcomer', node: first.name, labels: { app: 'client' } };
  const pods = await cluster.startPods([...clientPods, newcomerPod]);
  const clients = pods.map((pod): Client => ({ ...pod, kind: 'pod' }));
  const newcomer = clients.pop()!;
  const noNodes = cluster.missing('node-clients');
  if (noNodes === null) {
    const specs = nodes.map(
      (node, i): PodSpec => ({ name: `node-${i + 1}`, node: node.name, labels: { app: 'client' }, hostNetwork: true }),
    );
    try {
      const pods = await cluster.startPods(specs);
      clients.push(...pods.map((pod): Client => ({ ...pod, kind: 'node' })));
    } catch (error) {
      note(`no clients in the network of nodes: ${(error as Error).message}`);
    }
  } else note(`no clients in the network of nodes: ${noNodes}`);
  const noOutside = cluster.missing('outside');
  if (noOutside === null) clients.push(await cluster.outside());
  else note(`no client outside: ${noOutside}`);
  const families = FAMILIES.filter((family) => servers.every(({ ips }) => ofFamily(ips, family) !== undefined));
  return new Stage({ cluster, servers, clients, newcomer, families });
}
