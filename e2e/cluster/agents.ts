// The agents of a cluster as Kubernetes runs them: found by their label, asked by exec, and, where the suite deployed them,
// restarted, upgraded and reconfigured.
import { readFileSync } from 'node:fs';
import { parseAllDocuments, parseDocument } from 'yaml';
import type { ApiObject, ProxyMode } from './cluster.ts';
import type { Kubectl } from './kubectl.ts';

const NAMESPACE = 'kube-system';
const NAME = 'kubeplumb';
const INIT = 'kernel-settings';
const MANIFEST = new URL('../../daemonset.yaml', import.meta.url);
const SELECTOR = 'app.kubernetes.io/name=kubeplumb';
const ROLLOUT_LIMIT = '600s';
const RESTART_LIMIT_MS = 600_000;

export interface Settings {
  readonly mode: ProxyMode;
  readonly image: string;
  readonly clusterCidr: string;
  /** URLs of API servers that need no Service; none: as the cluster says. */
  readonly apiServers: readonly string[];
}

interface DaemonSet extends ApiObject {
  spec: { template: { spec: { containers: { image: string }[]; initContainers?: { image: string }[] } } };
}

interface ConfigMap extends ApiObject {
  data: Record<string, string>;
}

/** The objects of daemonset.yaml with these settings. Pure. */
export function agentObjects(manifest: string, settings: Settings): ApiObject[] {
  const objects = parseAllDocuments(manifest)
    .map((document) => document.toJS() as ApiObject | null)
    .filter((object) => object !== null);
  for (const object of objects) {
    if (object.kind === 'ConfigMap') {
      const { data } = object as ConfigMap;
      const config = parseDocument(data['config.conf'] ?? '');
      config.set('mode', settings.mode);
      config.set('clusterCIDR', settings.clusterCidr);
      // Limits of whole machines: not the suite's to change, and where nodes are containers nobody can.
      config.setIn(['conntrack', 'maxPerCore'], 0);
      data['config.conf'] = config.toString();
      if (settings.apiServers.length > 0) data.apiservers = settings.apiServers.join(',');
    } else if (object.kind === 'DaemonSet') {
      const { containers, initContainers = [] } = (object as DaemonSet).spec.template.spec;
      for (const container of [...containers, ...initContainers]) container.image = settings.image;
    }
  }
  return objects;
}

interface PodList {
  readonly items: readonly {
    readonly metadata: { readonly name: string; readonly deletionTimestamp?: string };
    readonly spec: { readonly nodeName?: string };
    readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
  }[];
}

export class Agents {
  readonly #kubectl: Kubectl;
  /** What of the suite's objects was there before it deployed them, by kind; null when it did not. */
  #before: ReadonlyMap<string, ApiObject> | null = null;
  #settings: Settings | null = null;
  #closed = false;

  constructor(kubectl: Kubectl) {
    this.#kubectl = kubectl;
  }

  /** Whether the suite may do with them as it likes. */
  get own(): boolean {
    return this.#settings !== null;
  }

  async #list(): Promise<PodList['items']> {
    const list = await this.#kubectl.get<PodList>('pods', '-n', NAMESPACE, '-l', SELECTOR);
    return (list?.items ?? []).filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  }

  /** Why agents cannot be asked, or null. */
  async missing(): Promise<string | null> {
    try {
      return (await this.#list()).length > 0 ? null : `no pods with label ${SELECTOR} in ${NAMESPACE}`;
    } catch (error) {
      return (error as Error).message;
    }
  }

  /** The mode in the agents' ConfigMap, null when there is none. */
  async mode(): Promise<ProxyMode | null> {
    const object = await this.#kubectl.get<ConfigMap>('configmap', NAME, '-n', NAMESPACE).catch(() => null);
    return object === null ? null : parseDocument(object.data['config.conf'] ?? '').toJS()?.mode || null;
  }

  async #podOn(node: string): Promise<string> {
    const pod = (await this.#list()).find(({ spec }) => spec.nodeName === node);
    if (pod === undefined) throw new Error(`no agent on node ${node}`);
    return pod.metadata.name;
  }

  async dump(node: string, args: readonly string[]): Promise<string> {
    const pod = await this.#podOn(node);
    return this.#kubectl.run(['exec', '-n', NAMESPACE, pod, '-c', NAME, '--', 'agentctl', 'dump', ...args]);
  }

  /** Deploys daemonset.yaml, or changes what this object deployed, and waits for all pods. */
  async deploy(settings: Settings): Promise<void> {
    const objects = agentObjects(readFileSync(MANIFEST, 'utf8'), settings);
    if (this.#before === null) {
      const found = await Promise.all(objects.map((object) => this.#kubectl.get(...resourceOf(object))));
      this.#before = new Map(found.filter((object) => object !== null).map((object) => [object.kind, object]));
    }
    const again = this.own || this.#before.has('DaemonSet');
    for (const object of objects) {
      if (this.#closed) throw new Error('the run is over');
      this.#settings = settings;
      await this.#kubectl.apply(object);
    }
    // A changed ConfigMap alone starts nothing.
    if (again) await this.#daemonSet('restart');
    await this.#daemonSet('status', `--timeout=${ROLLOUT_LIMIT}`);
  }

  #daemonSet(verb: string, ...flags: string[]): Promise<string> {
    return this.#kubectl.run(['rollout', verb, `daemonset/${NAME}`, '-n', NAMESPACE, ...flags], { timeoutMs: 660_000 });
  }

  switchMode(mode: ProxyMode): Promise<void> {
    return this.deploy({ ...this.#settings!, mode });
  }

  async upgrade(image: string): Promise<void> {
    await this.deploy({ ...this.#settings!, image });
  }

  /** @throws Error when there is no other pod that is ready within ten minutes */
  async restart(node: string): Promise<void> {
    const old = await this.#podOn(node);
    await this.#kubectl.run(['delete', 'pod', '-n', NAMESPACE, old, '--wait']);
    // The DaemonSet's status may still be that of before.
    const deadline = performance.now() + RESTART_LIMIT_MS;
    for (;;) {
      const next = (await this.#list()).find(({ metadata, spec }) => spec.nodeName === node && metadata.name !== old);
      if (next?.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True')) return;
      if (performance.now() > deadline) throw new Error(`no agent is ready on node ${node} after ${old} was deleted`);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }

  /** Logs and dump of each agent, and what Kubernetes says of the pods, by file name. */
  async evidence(): Promise<Map<string, string>> {
    const text = (args: string[]): Promise<string> =>
      this.#kubectl.run([...args, '-n', NAMESPACE]).catch((error: Error) => `${error.message}\n`);
    const files = new Map([['agents.txt', await text(['describe', 'pods', '-l', SELECTOR])]]);
    for (const { metadata, spec } of await this.#list()) {
      const node = spec.nodeName ?? metadata.name;
      const logs = ['logs', metadata.name, '--tail=-1', '-c'];
      files.set(`${node}.init.log`, await text([...logs, INIT]));
      files.set(`${node}.log`, await text([...logs, NAME]));
      files.set(`${node}.before.log`, await text([...logs, NAME, '--previous']));
      files.set(`${node}.dump`, await this.dump(node, []).catch((error: Error) => `${error.message}\n`));
    }
    return files;
  }

  /** Puts back what was there before, and removes what else was deployed. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#before === null || this.#settings === null) return;
    for (const object of agentObjects(readFileSync(MANIFEST, 'utf8'), this.#settings).reverse()) {
      const before = this.#before.get(object.kind);
      if (before === undefined) await this.#kubectl.run(['delete', ...resourceOf(object), '--ignore-not-found']);
      else await this.#kubectl.apply(withoutServerFields(before));
    }
    if (!this.#before.has('DaemonSet')) return;
    await this.#daemonSet('restart');
    await this.#daemonSet('status', `--timeout=${ROLLOUT_LIMIT}`);
  }
}

/** As kubectl names an object. */
const resourceOf = ({ kind, metadata: { name, namespace } }: ApiObject): string[] => [
  kind.toLowerCase(),
  name,
  ...(namespace === undefined ? [] : ['-n', namespace]),
];

/** An object as it was read, to be applied again. */
function withoutServerFields({ metadata, status: _, ...rest }: ApiObject): ApiObject {
  const { name, namespace, labels = {} } = metadata;
  return { ...rest, metadata: { name, ...(namespace !== undefined && { namespace }), labels } } as ApiObject;
}
