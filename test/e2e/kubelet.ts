// As much of kubelets and controllers as the checks need through the real kube-apiserver: pods become processes in network
// namespaces of two nodes, Services get EndpointSlices, Deployments roll. It polls; what it does is decided anew each round.
import { parse } from 'yaml';
import type { ApiObject, Pod as PodAddresses, Service } from '../../e2e/cluster/cluster.ts';
import { endpointSlices } from '../../e2e/cluster/namespaces/endpoint-slices.ts';
import { Netexec } from '../../e2e/cluster/namespaces/netexec.ts';
import { NODES, type Topology } from '../../e2e/cluster/namespaces/topology.ts';

const ROUND_MS = 150;
/** Instead of the pods' own: as long as nodes need to hear of it. */
const DRAIN_MS = 3000;

/** Requests to an API server: path below the server's URL, and what is sent. @throws Error with the server's message */
export type Call = (method: string, path: string, type?: string, content?: unknown) => Promise<unknown>;

interface PodObject extends ApiObject {
  readonly metadata: ApiObject['metadata'] & { readonly namespace: string; readonly deletionTimestamp?: string };
  readonly spec: {
    readonly nodeName: string;
    readonly hostNetwork?: boolean;
    readonly containers: { args: string[] }[];
  };
}

interface DaemonSetObject extends ApiObject {
  readonly metadata: ApiObject['metadata'] & { readonly namespace: string; readonly generation: number };
  readonly spec: DeploymentObject['spec'];
}

interface DeploymentObject extends ApiObject {
  readonly metadata: ApiObject['metadata'] & { readonly namespace: string; readonly generation: number };
  readonly spec: {
    readonly replicas: number;
    readonly template: { readonly metadata: { annotations?: object; labels: Record<string, string> }; spec: object };
  };
}

/** What runs for a pod. */
interface Process {
  readonly ready: Promise<unknown>;
  stop(): Promise<unknown>;
}

interface Running extends PodAddresses {
  readonly process: Process;
  readonly hostNetwork: boolean;
  /** On the performance clock; null while nobody has asked for the end. */
  endsAt: number | null;
}

export class Kubelet {
  readonly #call: Call;
  readonly #topology: Topology;
  readonly #startAgent: (node: string, mode: string) => Process;
  readonly #running = new Map<string, Running>();
  readonly #slices = new Map<string, string>();
  #stopped = false;
  #done: Promise<void> = Promise.resolve();
  #lastPod = 0;

  /** @param startAgent runs the agent on a node, for pods of the DaemonSet kubeplumb */
  constructor(topology: Topology, call: Call, startAgent: (node: string, mode: string) => Process) {
    this.#topology = topology;
    this.#call = call;
    this.#startAgent = startAgent;
  }

  /** Makes the Nodes and begins. @param failed told when a round fails */
  async start(failed: (error: Error) => void): Promise<void> {
    for (const { name, ips } of NODES) {
      const labels = { 'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux' };
      await this.#apply(`/api/v1/nodes/${name}`, { apiVersion: 'v1', kind: 'Node', metadata: { name, labels } });
      const addresses = ips.map((address) => ({ type: 'InternalIP', address }));
      const conditions = [{ type: 'Ready', status: 'True', reason: 'Test', message: '' }];
      await this.#merge(`/api/v1/nodes/${name}/status`, { status: { addresses, conditions } });
      // New nodes are tainted until a controller sees them ready.
      await this.#merge(`/api/v1/nodes/${name}`, { spec: { taints: null } });
    }
    this.#done = this.#rounds(failed);
  }

  async #rounds(failed: (error: Error) => void): Promise<void> {
    while (!this.#stopped) {
      try {
        await this.#round();
      } catch (error) {
        if (!this.#stopped) failed(error as Error);
      }
      await new Promise((resolve) => setTimeout(resolve, ROUND_MS));
    }
  }

  async #list<T>(path: string): Promise<T[]> {
    return ((await this.#call('GET', path)) as { items: T[] }).items;
  }

  #apply(path: string, object: unknown): Promise<unknown> {
    return this.#call('PATCH', `${path}?fieldManager=test&force=true`, 'application/apply-patch+yaml', object);
  }

  #merge(path: string, patch: unknown): Promise<unknown> {
    return this.#call('PATCH', path, 'application/merge-patch+json', patch);
  }

  async #round(): Promise<void> {
    for (const { metadata } of await this.#list<ApiObject>('/api/v1/namespaces'))
      if (metadata.deletionTimestamp !== undefined)
        await this.#call('DELETE', `/api/v1/namespaces/${metadata.name}/pods?gracePeriodSeconds=0`);
    const pods = await this.#list<PodObject>('/api/v1/pods');
    for (const running of [...this.#running.values()]) {
      if (pods.some(({ metadata }) => metadata.name === running.name)) continue;
      this.#running.delete(running.name);
      await this.#end(running);
    }
    for (const deployment of await this.#list<DeploymentObject>('/apis/apps/v1/deployments'))
      await this.#roll(
        deployment,
        pods.filter(({ metadata }) => metadata.labels?.deployment === deployment.metadata.name),
      );
    for (const daemonSet of await this.#list<DaemonSetObject>('/apis/apps/v1/daemonsets'))
      await this.#onEachNode(
        daemonSet,
        pods.filter(({ metadata }) => isAgent(metadata)),
      );
    await Promise.all(pods.map((pod) => this.#sync(pod)));
    await this.#publish(pods);
  }

  /** Starts a pod that is new, and ends one that is to go once its time is over. */
  async #sync({ metadata, spec }: PodObject): Promise<void> {
    const { name, namespace, deletionTimestamp } = metadata;
    const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
    const running = this.#running.get(name);
    if (running === undefined) {
      if (deletionTimestamp !== undefined) return;
      const { nodeName: node, hostNetwork = false } = spec;
      const ips = hostNetwork ? NODES.find((n) => n.name === node)!.ips : this.#topology.addPod(name, node);
      const process = isAgent(metadata) ? this.#startAgent(node, await this.#mode()) : netexec(name, spec);
      this.#running.set(name, { name, node, ips, process, hostNetwork, endsAt: null });
      await process.ready;
      const podIPs = ips.map((ip) => ({ ip }));
      const conditions = ['PodScheduled', 'Initialized', 'ContainersReady', 'Ready'].map((type) => ({
        type,
        status: 'True',
      }));
      await this.#merge(`${path}/status`, { status: { phase: 'Running', podIP: ips[0], podIPs, conditions } });
    } else if (deletionTimestamp !== undefined) {
      running.endsAt ??= performance.now() + (running.hostNetwork ? 0 : DRAIN_MS);
      if (performance.now() < running.endsAt) return;
      this.#running.delete(name);
      await this.#end(running);
      await this.#call('DELETE', `${path}?gracePeriodSeconds=0`);
    }
  }

  async #end({ name, process, hostNetwork }: Running): Promise<void> {
    await process.stop();
    if (!hostNetwork) this.#topology.removePod(name);
  }

  /** One pod more or less a round, new ones first; then its status, which `kubectl rollout status` reads. */
  async #roll({ metadata, spec: { replicas, template } }: DeploymentObject, pods: readonly PodObject[]): Promise<void> {
    const { name, namespace, generation } = metadata;
    const alive = pods.filter((pod) => pod.metadata.deletionTimestamp === undefined);
    const version = JSON.stringify(template.metadata.annotations ?? {});
    const current = alive.filter(
      ({ metadata }) => metadata.annotations !== undefined && versionOf(metadata) === version,
    );
    const old = alive.filter((pod) => !current.includes(pod));
    const ready = alive.filter((pod) => this.#running.has(pod.metadata.name));
    if (current.length < replicas && alive.length <= replicas) {
      const number = ++this.#lastPod;
      const labels = { ...template.metadata.labels, deployment: name };
      const pod = { name: `${name}-${number}`, namespace, labels, annotations: { version } };
      const node = NODES[number % NODES.length]!.name;
      const object = { apiVersion: 'v1', kind: 'Pod', metadata: pod, spec: { ...template.spec, nodeName: node } };
      await this.#apply(`/api/v1/namespaces/${namespace}/pods/${pod.name}`, object);
    } else if (old.length > 0 && ready.length > replicas) {
      await this.#call('DELETE', `/api/v1/namespaces/${namespace}/pods/${old[0]!.metadata.name}`);
    }
    const updatedReplicas = current.filter((pod) => this.#running.has(pod.metadata.name)).length;
    const counts = {
      replicas: alive.length,
      updatedReplicas,
      readyReplicas: ready.length,
      availableReplicas: ready.length,
    };
    await this.#merge(`/apis/apps/v1/namespaces/${namespace}/deployments/${name}/status`, {
      status: { observedGeneration: generation, ...counts },
    });
  }

  /** The mode that the agents' ConfigMap says. */
  async #mode(): Promise<string> {
    const map = (await this.#call('GET', '/api/v1/namespaces/kube-system/configmaps/kubeplumb')) as {
      data: Record<string, string>;
    };
    return parse(map.data['config.conf']!).mode;
  }

  /** A pod on each node; those of another version go, one a round. */
  async #onEachNode({ metadata, spec: { template } }: DaemonSetObject, pods: readonly PodObject[]): Promise<void> {
    const { name, namespace, generation } = metadata;
    const version = JSON.stringify(template);
    const alive = pods.filter((pod) => pod.metadata.deletionTimestamp === undefined);
    const ready = alive.filter((pod) => this.#running.has(pod.metadata.name));
    const old = alive.find((pod) => versionOf(pod.metadata) !== version);
    const bare = NODES.find((node) => !pods.some(({ spec }) => spec.nodeName === node.name));
    if (bare !== undefined) {
      const pod = {
        name: `${name}-${++this.#lastPod}`,
        namespace,
        labels: template.metadata.labels,
        annotations: { version },
      };
      const object = { apiVersion: 'v1', kind: 'Pod', metadata: pod, spec: { ...template.spec, nodeName: bare.name } };
      await this.#apply(`/api/v1/namespaces/${namespace}/pods/${pod.name}`, object);
    } else if (old !== undefined && ready.length === NODES.length) {
      await this.#call('DELETE', `/api/v1/namespaces/${namespace}/pods/${old.metadata.name}`);
    }
    const updatedNumberScheduled = alive.filter((pod) => versionOf(pod.metadata) === version).length;
    const counts = { currentNumberScheduled: alive.length, numberReady: ready.length, numberAvailable: ready.length };
    const status = { observedGeneration: generation, desiredNumberScheduled: NODES.length, numberMisscheduled: 0 };
    await this.#merge(`/apis/apps/v1/namespaces/${namespace}/daemonsets/${name}/status`, {
      status: { ...status, ...counts, updatedNumberScheduled },
    });
  }

  async #publish(pods: readonly PodObject[]): Promise<void> {
    const listed = new Set<string>();
    const services = (await this.#list<Service>('/api/v1/services')).filter(({ spec }) => spec.selector !== undefined);
    for (const service of services) {
      const { name, namespace } = service.metadata;
      const candidates = pods.flatMap(({ metadata, spec }) => {
        const running = this.#running.get(metadata.name);
        if (running === undefined || metadata.namespace !== namespace) return [];
        const terminating = metadata.deletionTimestamp !== undefined;
        return [{ ...running, labels: metadata.labels ?? {}, terminating, node: spec.nodeName }];
      });
      const stored = { ...service, apiVersion: 'v1', kind: 'Service' };
      for (const slice of endpointSlices(stored, candidates)) {
        const path = `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices/${slice.metadata.name}`;
        listed.add(path);
        const object = { ...slice, metadata: { ...slice.metadata, labels: { 'kubernetes.io/service-name': name } } };
        const text = JSON.stringify(object);
        if (this.#slices.get(path) === text) continue;
        this.#slices.set(path, text);
        await this.#apply(path, object);
      }
    }
    for (const path of this.#slices.keys()) {
      if (listed.has(path)) continue;
      this.#slices.delete(path);
      await this.#call('DELETE', path);
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
    await Promise.all([...this.#running.values()].map((running) => this.#end(running)));
  }
}

const isAgent = (metadata: ApiObject['metadata']): boolean =>
  metadata.labels?.['app.kubernetes.io/name'] === 'kubeplumb';

/** The process of a pod of the checks. */
function netexec(name: string, { nodeName, hostNetwork = false, containers }: PodObject['spec']): Netexec {
  const port = (flag: string): number =>
    Math.max(0, Number(containers[0]!.args.find((arg) => arg.startsWith(`--${flag}-port=`))?.split('=')[1] ?? 0));
  const servers = { httpPort: port('http'), udpPort: port('udp') };
  return new Netexec(hostNetwork ? nodeName : name, { name, ...servers, timeoutMs: 1500 });
}

const versionOf = (metadata: ApiObject['metadata']): string =>
  (metadata.annotations as { version?: string } | undefined)?.version ?? '';
