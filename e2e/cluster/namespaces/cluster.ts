// A cluster of two nodes made of network namespaces on this machine, with the agent on each: no containers, no kubelet, no
// controllers. Pods are processes that answer as netexec does; their EndpointSlices are written here.
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { agentctl } from '../../../test/support/agentctl.ts';
import { within } from '../../../test/support/namespaces.ts';
import { RunningAgent } from '../../../test/support/running-agent.ts';
import { temporaryFolder } from '../../../test/support/temporary-folder.ts';
import { scaled } from '../../../test/support/time-scale.ts';
import {
  type ApiObject,
  type Capability,
  type Client,
  type Cluster,
  type ClusterNode,
  type Deployment,
  type Dial,
  type DialResult,
  dialPath,
  dialResult,
  HTTP_PORT,
  type Pod,
  type PodSpec,
  type ProxyMode,
  type Service,
  UDP_PORT,
} from '../cluster.ts';
import { type Api, startApi } from './api.ts';
import { endpointSlices, type LabeledPod, sliceNames } from './endpoint-slices.ts';
import { Netexec } from './netexec.ts';
import { NODES, OUTSIDE_IPS, POD_CIDRS, Topology } from './topology.ts';

const NAMESPACE = 'e2e';
/** Of clients on nodes and outside; servers in pods have the usual ones. */
const CLIENT_PORT = 28_080;
const DIAL_TIMEOUT_MS = 1500;
/** As long as a pod still serves after all nodes know of its end: for connections under way. */
const DRAIN_MS = 500;

const MISSING: Partial<Record<Capability, string>> = {
  dns: 'no DNS server runs in the namespaces',
  'agent-upgrade': 'there is one version of the agent',
  'node-restart': 'a namespace cannot restart',
};

export interface NamespacesOptions {
  readonly mode: ProxyMode;
  /** `any`: the real kube-apiserver where there is one. */
  readonly api?: 'real' | 'test' | 'any';
  readonly note?: (text: string) => void;
}

interface RunningPod extends LabeledPod {
  readonly hostNetwork: boolean;
}

export class NamespacesCluster implements Cluster {
  readonly name: string;
  readonly namespace = NAMESPACE;
  readonly nodes: readonly ClusterNode[] = NODES;
  readonly settleMs = scaled(15_000);
  readonly checkLimitMs = scaled(60_000);
  mode: ProxyMode;
  readonly #topology: Topology;
  readonly #api: Api;
  readonly #agents = new Map<string, RunningAgent>();
  /** For the sockets of the agents on a node, one after the other. */
  readonly #folders = new Map(NODES.map(({ name }) => [name, temporaryFolder()]));
  /** All that can dial, by name. */
  readonly #netexecs = new Map<string, { process: Netexec; port: number }>();
  readonly #pods = new Map<string, RunningPod>();
  readonly #services = new Map<string, Service>();
  /** Slices as last written. */
  readonly #slices = new Map<string, string>();
  #lastReplica = 0;

  private constructor(topology: Topology, api: Api, mode: ProxyMode) {
    this.#topology = topology;
    this.#api = api;
    this.mode = mode;
    this.name = `namespaces with ${api.name}`;
  }

  /** Await namespacesMissing first. */
  static async create({ mode, api: kind = 'any', note = () => {} }: NamespacesOptions): Promise<NamespacesCluster> {
    const topology = new Topology();
    let api: Api | null = null;
    try {
      api = await startApi(kind, note);
      const cluster = new NamespacesCluster(topology, api, mode);
      await cluster.#start();
      return cluster;
    } catch (error) {
      await api?.close();
      topology.close();
      throw error;
    }
  }

  async #start(): Promise<void> {
    await this.#api.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
    for (const { name, ips } of NODES) {
      const node = { apiVersion: 'v1', kind: 'Node', metadata: { name, labels: { 'kubernetes.io/hostname': name } } };
      await this.#api.put(node);
      await this.#api.putStatus(node, { addresses: ips.map((address) => ({ type: 'InternalIP', address })) });
    }
    await this.#startAgents(NODES.map(({ name }) => name));
  }

  async #startAgents(nodes: readonly string[]): Promise<void> {
    const start = async (node: string): Promise<void> => {
      const flags = [
        `--hostname-override=${node}`,
        `--cluster-cidr=${POD_CIDRS.join(',')}`,
        '--healthz-bind-address=0.0.0.0:10256',
        ...this.#api.agentFlags,
      ];
      const net = { spawn: (_: string, ...rest: SpawnRest) => this.#topology.spawn(node, ...rest) };
      const agent = new RunningAgent({ net, mode: this.mode, flags, folder: this.#folders.get(node)! });
      this.#agents.set(node, agent);
      await agent.ready();
    };
    await Promise.all(nodes.map(start));
  }

  missing(capability: Capability): string | null {
    return MISSING[capability] ?? null;
  }

  async #startNetexec(role: string, name: string, client: boolean, forwardTo?: string): Promise<void> {
    const [httpPort, udpPort] = client ? [CLIENT_PORT, 0] : [HTTP_PORT, UDP_PORT];
    const forward = forwardTo === undefined ? {} : { forwardTo };
    const process = new Netexec(role, { name, httpPort, udpPort, timeoutMs: scaled(DIAL_TIMEOUT_MS), ...forward });
    this.#netexecs.set(name, { process, port: httpPort });
    await process.ready;
  }

  async startPods(specs: readonly PodSpec[]): Promise<Pod[]> {
    const pods = specs.map(({ name, node, labels, hostNetwork = false }): RunningPod => {
      const ips = hostNetwork ? NODES.find((n) => n.name === node)!.ips : this.#topology.addPod(name, node);
      return { name, node, labels, ips, hostNetwork, terminating: false };
    });
    await Promise.all(
      specs.map(({ name, node, hostNetwork = false, forwardTo }) =>
        this.#startNetexec(hostNetwork ? node : name, name, hostNetwork, forwardTo),
      ),
    );
    for (const pod of pods) this.#pods.set(pod.name, pod);
    await this.#publish();
    return pods;
  }

  async stopPods(names: readonly string[]): Promise<void> {
    const pods = names.flatMap((name) => this.#pods.get(name) ?? []);
    if (pods.length === 0) return;
    for (const pod of pods) this.#pods.set(pod.name, { ...pod, terminating: true });
    const version = await this.#publish();
    if (version > 0) {
      await Promise.all([...this.#agents.values()].map((agent) => agent.acknowledged(version)));
      await new Promise((resolve) => setTimeout(resolve, scaled(DRAIN_MS)));
    }
    for (const { name, hostNetwork } of pods) {
      this.#pods.delete(name);
      await this.#netexecs.get(name)?.process.stop();
      this.#netexecs.delete(name);
      if (!hostNetwork) this.#topology.removePod(name);
    }
    await this.#publish();
  }

  /** Writes the slices that differ from those written before. @returns the last one's version, 0 when none did */
  async #publish(): Promise<number> {
    let version = 0;
    for (const service of this.#services.values()) {
      for (const slice of endpointSlices(service, [...this.#pods.values()])) {
        const text = JSON.stringify(slice);
        if (this.#slices.get(slice.metadata.name) === text) continue;
        this.#slices.set(slice.metadata.name, text);
        version = Number((await this.#api.put(slice)).metadata.resourceVersion);
      }
    }
    return version;
  }

  async outside(): Promise<Client> {
    await this.#startNetexec('outside', 'outside', true);
    return { name: 'outside', kind: 'outside', node: null, ips: OUTSIDE_IPS };
  }

  async dial(client: Client, dial: Dial): Promise<DialResult> {
    const netexec = this.#netexecs.get(client.name);
    if (netexec === undefined) throw new Error(`no client "${client.name}"`);
    const url = `http://127.0.0.1:${netexec.port}${dialPath(dial)}`;
    const timeoutMs = scaled(DIAL_TIMEOUT_MS) * ((dial.tries ?? 1) + 1);
    return dialResult((await netexec.process.fetch({ url, timeoutMs })).body);
  }

  async apply(object: ApiObject): Promise<ApiObject> {
    const stored = await this.#api.put({ ...object, metadata: { ...object.metadata, namespace: NAMESPACE } });
    if (stored.kind === 'Service') this.#services.set(stored.metadata.name, stored as Service);
    await this.#publish();
    return stored;
  }

  async setIngress(service: string, ips: readonly string[]): Promise<void> {
    await this.#api.putStatus(this.#services.get(service)!, { loadBalancer: { ingress: ips.map((ip) => ({ ip })) } });
  }

  async remove(kind: 'Service', name: string): Promise<void> {
    this.#services.delete(name);
    await this.#api.remove({ apiVersion: 'v1', kind, metadata: { name, namespace: NAMESPACE } });
    for (const slice of sliceNames(name)) {
      this.#slices.delete(slice);
      const metadata = { name: slice, namespace: NAMESPACE };
      await this.#api.remove({ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata });
    }
  }

  async #startReplica({ name, labels }: Deployment): Promise<void> {
    const number = ++this.#lastReplica;
    const node = NODES[number % NODES.length]!.name;
    await this.startPods([{ name: `${name}-${number}`, node, labels: { ...labels, deployment: name } }]);
  }

  #replicas({ name }: Deployment): string[] {
    return [...this.#pods.values()].filter(({ labels }) => labels.deployment === name).map((pod) => pod.name);
  }

  async startDeployment(deployment: Deployment): Promise<void> {
    for (let i = 0; i < deployment.replicas; i++) await this.#startReplica(deployment);
  }

  async rollout(deployment: Deployment): Promise<void> {
    for (const old of this.#replicas(deployment)) {
      await this.#startReplica(deployment);
      await this.stopPods([old]);
    }
  }

  stopDeployment(deployment: Deployment): Promise<void> {
    return this.stopPods(this.#replicas(deployment));
  }

  async dump(node: string, args: readonly string[]): Promise<string> {
    const { code, out, err } = await agentctl('dump', ...args, '--socket', this.#agents.get(node)!.socket);
    if (code !== 0) throw new Error(`agentctl dump on ${node}: ${err.trim()}`);
    return out;
  }

  async restartAgent(node: string): Promise<void> {
    await this.#agents.get(node)!.stop();
    await this.#startAgents([node]);
  }

  upgradeAgents(): Promise<void> {
    throw new Error(MISSING['agent-upgrade']);
  }

  async switchMode(mode: ProxyMode): Promise<void> {
    this.mode = mode;
    for (const { name } of NODES) await this.restartAgent(name);
  }

  restartNode(): Promise<void> {
    throw new Error(MISSING['node-restart']);
  }

  async collect(folder: string): Promise<void> {
    try {
      mkdirSync(folder, { recursive: true });
      for (const [node, agent] of this.#agents) {
        writeFileSync(join(folder, `${node}.log`), agent.lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
        writeFileSync(join(folder, `${node}.dump`), await this.dump(node, []).catch((error) => `${error}\n`));
        for (const argv of [
          ['nft', 'list', 'ruleset'],
          ['conntrack', '-L'],
          ['ip', 'route'],
        ]) {
          const result = within(node, () =>
            spawnSync(argv[0]!, argv.slice(1), { encoding: 'utf8', maxBuffer: 1 << 28 }),
          );
          writeFileSync(join(folder, `${node}.${argv[0]}`), result.stdout ?? `${result.error?.message}\n`);
        }
      }
    } catch (error) {
      process.stderr.write(`cannot collect into ${folder}: ${(error as Error).message}\n`);
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#agents.values()].map((agent) => agent.stop('SIGKILL')));
    await Promise.all([...this.#netexecs.values()].map(({ process }) => process.stop()));
    await this.#api.close();
    for (const { name, hostNetwork } of this.#pods.values()) if (!hostNetwork) this.#topology.removePod(name);
    this.#topology.close();
  }
}

type SpawnRest = Parameters<Topology['spawn']> extends [string, ...infer Rest] ? Rest : never;
