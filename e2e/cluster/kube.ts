// A cluster with kubelets and controllers, through kubectl: pods, Services and Deployments in a namespace of the suite's own.
import type { Images } from '../images.ts';
import type { Agents } from './agents.ts';
import { collectInto, type Source } from './artifacts.ts';
import type {
  ApiObject,
  Capability,
  Client,
  Cluster,
  ClusterNode,
  Deployment,
  Dial,
  DialResult,
  Pod,
  PodSpec,
  ProxyMode,
} from './cluster.ts';
import { dialPath, dialResult, ofFamily } from './cluster.ts';
import type { Kubectl } from './kubectl.ts';
import { deploymentObject, httpPortOf, OWNER_LABELS, podObjects } from './pod-manifests.ts';
import { ProgramError } from './run-program.ts';

const OWNER = Object.entries(OWNER_LABELS)
  .map(([key, value]) => `${key}=${value}`)
  .join(',');
/** Of netexec for one connection, and some time for the API server and its way there. */
const DIAL_LIMIT_MS = 6000;

/** What only some such clusters can do. */
export interface Extras {
  outside?(): Promise<{ client: Client; dial(path: string, timeoutMs: number): Promise<string> }>;
  restartNode?(node: string): Promise<void>;
  /** Puts more into a folder, or gives it to be put there. */
  collect?(folder: string): ReturnType<Source>;
}

export interface KubeClusterOptions {
  readonly name: string;
  readonly kubectl: Kubectl;
  readonly images: Images;
  readonly namespace: string;
  readonly agents: Agents;
  readonly extras?: Extras;
  /** Of starting pods: images may come slowly. */
  readonly podLimitSeconds: number;
  /** How requests get to clients: curl in the pod, or the API server's proxy to pods; `any` tries the first. */
  readonly channel?: 'exec' | 'proxy' | 'any';
}

interface NodeObject extends ApiObject {
  readonly spec: { readonly unschedulable?: boolean; readonly taints?: readonly { readonly effect: string }[] };
  readonly status: {
    readonly addresses?: readonly { readonly type: string; readonly address: string }[];
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

interface PodObject extends ApiObject {
  readonly spec: { readonly nodeName: string };
  readonly status: {
    readonly podIPs?: readonly { readonly ip: string }[];
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[];
    readonly containerStatuses?: readonly {
      readonly state: { readonly waiting?: { readonly reason: string; readonly message?: string } };
    }[];
  };
}

/** Ready Linux nodes that take ordinary pods. Pure. */
export function usableNodes(nodes: readonly NodeObject[]): ClusterNode[] {
  return nodes
    .filter(({ spec, status, metadata }) => {
      const ready = status.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
      const taken = spec.taints?.some(({ effect }) => effect !== 'PreferNoSchedule') ?? false;
      return ready && !taken && spec.unschedulable !== true && metadata.labels?.['kubernetes.io/os'] !== 'windows';
    })
    .map(({ metadata, status }) => {
      const ips = (status.addresses ?? []).filter(({ type }) => type === 'InternalIP').map(({ address }) => address);
      const one = [ofFamily(ips, 'IPv4'), ofFamily(ips, 'IPv6')].filter((ip) => ip !== undefined);
      return { name: metadata.name, ips: one };
    });
}

/** Why a pod is not ready. Pure. */
export function whyNotReady({ metadata, status }: PodObject): string {
  const waiting = status.containerStatuses?.map(({ state }) => state.waiting).find((state) => state !== undefined);
  const condition = status.conditions?.find(({ status, message }) => status !== 'True' && message !== undefined);
  const why = waiting === undefined ? condition?.message : `${waiting.reason} ${waiting.message ?? ''}`.trim();
  return `pod ${metadata.name} is not ready: ${why ?? 'its containers were not started'}`;
}

export class KubeCluster implements Cluster {
  readonly name: string;
  readonly namespace: string;
  readonly settleMs = 60_000;
  readonly checkLimitMs = 1_800_000;
  nodes: readonly ClusterNode[] = [];
  mode: ProxyMode | null = null;
  readonly #options: KubeClusterOptions;
  readonly #kubectl: Kubectl;
  #channel: 'exec' | 'proxy' | 'any';
  #ownNamespace = false;
  #closing: Promise<void> | null = null;
  #noAgents: string | null = null;
  #noDns: string | null = null;
  #outside: { client: Client; dial(path: string, timeoutMs: number): Promise<string> } | null = null;

  constructor(options: KubeClusterOptions) {
    this.#options = options;
    this.#kubectl = options.kubectl;
    this.name = options.name;
    this.namespace = options.namespace;
    this.#channel = options.channel ?? 'any';
  }

  /** Looks at nodes and agents, and makes the namespace. @throws Error when the cluster cannot be used */
  async open(): Promise<void> {
    const list = await this.#kubectl.json<{ items: NodeObject[] }>(['get', 'nodes']);
    this.nodes = usableNodes(list.items);
    if (this.nodes.length === 0) throw new Error(`none of ${list.items.length} nodes is ready and takes pods`);
    this.#noAgents = await this.#options.agents.missing();
    this.mode = await this.#options.agents.mode();
    const dns = ['services', '-n', 'kube-system', '-l', 'k8s-app=kube-dns'];
    const services = await this.#kubectl.get<{ items: unknown[] }>(...dns).catch(() => null);
    this.#noDns = services?.items.length ? null : 'no Service with label k8s-app=kube-dns in kube-system';
    if ((await this.#kubectl.get('namespace', this.namespace)) !== null) return;
    // For the clients in a node's network; without that right they are left out.
    const labels = { ...OWNER_LABELS, 'pod-security.kubernetes.io/enforce': 'privileged' };
    this.#ownNamespace = true;
    await this.#put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: this.namespace, labels } });
  }

  missing(capability: Capability): string | null {
    const { agents, extras, images } = this.#options;
    const notOwn = agents.own ? null : 'the agents are not the suite’s to change (E2E_DEPLOY=1)';
    switch (capability) {
      case 'two-nodes':
        return this.nodes.length > 1 ? null : 'the cluster has one node that takes pods';
      case 'node-clients':
        return null;
      case 'dns':
        return this.#noDns;
      case 'outside':
        return extras?.outside ? null : 'no machine outside is at hand';
      case 'forwarder':
        return images.ingress === null ? 'no image for it (E2E_INGRESS_IMAGE)' : null;
      case 'agent-dump':
        return this.#noAgents;
      case 'agent-restart':
      case 'mode-switch':
        return notOwn;
      case 'agent-upgrade':
        return notOwn ?? (images.upgrade === null ? 'no image of another version (E2E_UPGRADE_IMAGE)' : null);
      case 'node-restart':
        return extras?.restartNode ? null : 'nodes cannot be restarted from here';
    }
  }

  /** A namespace is there a moment before pods can be. @throws Error once the cluster is being closed */
  async #put(object: ApiObject): Promise<ApiObject> {
    const deadline = performance.now() + 30_000;
    for (;;) {
      if (this.#closing !== null) throw new Error('the run is over');
      try {
        return await this.#kubectl.apply(object);
      } catch (error) {
        const early = /service ?account.*not found/is.test((error as Error).message);
        if (!early || performance.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
    }
  }

  async startPods(specs: readonly PodSpec[]): Promise<Pod[]> {
    const { images, podLimitSeconds } = this.#options;
    for (const spec of specs)
      for (const object of podObjects(spec, { namespace: this.namespace, images })) await this.#put(object);
    const names = specs.map(({ name }) => name);
    try {
      const pods = names.map((name) => `pod/${name}`);
      const args = ['wait', '-n', this.namespace, '--for=condition=Ready', ...pods, `--timeout=${podLimitSeconds}s`];
      await this.#kubectl.run(args, { timeoutMs: (podLimitSeconds + 30) * 1000 });
    } catch (error) {
      const pods = await Promise.all(names.map((name) => this.#pod(name)));
      const notReady = pods.filter(
        ({ status }) => !status.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True'),
      );
      throw notReady.length === 0 ? error : new Error(notReady.map(whyNotReady).join('; '), { cause: error });
    }
    return Promise.all(
      names.map(async (name) => {
        const { spec, status } = await this.#pod(name);
        return { name, node: spec.nodeName, ips: (status.podIPs ?? []).map(({ ip }) => ip) };
      }),
    );
  }

  #pod(name: string): Promise<PodObject> {
    return this.#kubectl.json<PodObject>(['get', 'pod', name, '-n', this.namespace]);
  }

  async stopPods(names: readonly string[]): Promise<void> {
    const objects = names.flatMap((name) => [`pod/${name}`, `configmap/${name}`]);
    await this.#kubectl.run(['delete', '-n', this.namespace, ...objects, '--ignore-not-found', '--wait']);
  }

  async outside(): Promise<Client> {
    this.#outside = await this.#options.extras!.outside!();
    return this.#outside.client;
  }

  async dial(client: Client, dial: Dial): Promise<DialResult> {
    const timeoutMs = DIAL_LIMIT_MS * ((dial.tries ?? 1) + 1);
    const path = dialPath(dial);
    if (client.kind === 'outside') return dialResult(await this.#outside!.dial(path, timeoutMs));
    const port = httpPortOf(client.kind === 'node');
    if (this.#channel !== 'proxy') {
      try {
        const curl = ['curl', '-g', '-s', '-S', '--max-time', String(timeoutMs / 1000)];
        const command = [...curl, `http://127.0.0.1:${port}${path}`];
        const text = await this.#kubectl.run(['exec', '-n', this.namespace, client.name, '--', ...command], {
          timeoutMs,
        });
        this.#channel = 'exec';
        return dialResult(text);
      } catch (error) {
        if (!(error instanceof ProgramError) || this.#channel === 'exec') throw error;
      }
    }
    const raw = `/api/v1/namespaces/${this.namespace}/pods/${client.name}:${port}/proxy${path}`;
    const result = dialResult(await this.#kubectl.run(['get', '--raw', raw], { timeoutMs }));
    this.#channel = 'proxy';
    return result;
  }

  apply(object: ApiObject): Promise<ApiObject> {
    const labels = { ...object.metadata.labels, ...OWNER_LABELS };
    return this.#put({ ...object, metadata: { ...object.metadata, namespace: this.namespace, labels } });
  }

  async setIngress(service: string, ips: readonly string[]): Promise<void> {
    const patch = JSON.stringify({ status: { loadBalancer: { ingress: ips.map((ip) => ({ ip })) } } });
    const args = ['patch', 'service', service, '-n', this.namespace, '--subresource=status', '--type=merge'];
    await this.#kubectl.run([...args, '--patch', patch]);
  }

  async remove(kind: 'Service', name: string): Promise<void> {
    await this.#kubectl.run(['delete', kind.toLowerCase(), name, '-n', this.namespace, '--ignore-not-found']);
  }

  #rollout(verb: string, { name }: Deployment, ...flags: string[]): Promise<string> {
    const args = ['rollout', verb, `deployment/${name}`, '-n', this.namespace, ...flags];
    return this.#kubectl.run(args, { timeoutMs: (this.#options.podLimitSeconds + 30) * 1000 });
  }

  async #rolledOut(deployment: Deployment): Promise<void> {
    await this.#rollout('status', deployment, `--timeout=${this.#options.podLimitSeconds}s`);
  }

  async startDeployment(deployment: Deployment): Promise<void> {
    await this.#put(deploymentObject(deployment, { namespace: this.namespace, images: this.#options.images }));
    await this.#rolledOut(deployment);
  }

  async rollout(deployment: Deployment): Promise<void> {
    const selector = Object.entries(deployment.labels).map(([key, value]) => `${key}=${value}`);
    const pods = ['get', 'pods', '-n', this.namespace, '-l', selector.join(','), '-o', 'name'];
    const old = (await this.#kubectl.run(pods)).split('\n').filter(Boolean);
    await this.#rollout('restart', deployment);
    await this.#rolledOut(deployment);
    // The last of them still serve for a while.
    await this.#kubectl.run(['wait', '-n', this.namespace, '--for=delete', ...old, '--timeout=90s']);
  }

  async stopDeployment({ name }: Deployment): Promise<void> {
    await this.#kubectl.run(['delete', 'deployment', name, '-n', this.namespace, '--ignore-not-found']);
  }

  dump(node: string, args: readonly string[]): Promise<string> {
    return this.#options.agents.dump(node, args);
  }

  restartAgent(node: string): Promise<void> {
    return this.#options.agents.restart(node);
  }

  upgradeAgents(): Promise<void> {
    return this.#options.agents.upgrade(this.#options.images.upgrade!);
  }

  async switchMode(mode: ProxyMode): Promise<void> {
    await this.#options.agents.switchMode(mode);
    this.mode = mode;
  }

  restartNode(node: string): Promise<void> {
    return this.#options.extras!.restartNode!(node);
  }

  async collect(folder: string): Promise<void> {
    const { agents, extras } = this.#options;
    const objects = ['get', 'pods,services,endpointslices,events', '-n', this.namespace, '-o', 'yaml'];
    await collectInto(folder, [
      () => agents.evidence(),
      async () => [['objects.yaml', await this.#kubectl.run(objects)]],
      async () => (await extras?.collect?.(folder)) ?? [],
    ]);
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#remove());
  }

  async #remove(): Promise<void> {
    if (this.#ownNamespace) {
      await this.#kubectl.run(['delete', 'namespace', this.namespace, '--wait=false', '--ignore-not-found']);
      return;
    }
    const kinds = 'deployments,services,pods,configmaps';
    await this.#kubectl.run(['delete', kinds, '-n', this.namespace, '-l', OWNER, '--ignore-not-found']);
  }
}
