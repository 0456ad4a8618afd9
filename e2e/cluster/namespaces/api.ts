// The API server of the cluster made of namespaces: the real kube-apiserver where there is one, else that of the tests.
import { readFileSync } from 'node:fs';
import { TestApiServer } from '../../../test/support/api-server.ts';
import type { ApiObject as StoredObject } from '../../../test/support/api-store.ts';
import { ControlPlane, controlPlaneMissing } from '../../../test/support/control-plane.ts';
import { within } from '../../../test/support/namespaces.ts';
import type { ApiObject, Service } from '../cluster.ts';
import { Netexec } from './netexec.ts';
import { allocated } from './service-addresses.ts';
import { LAN_IPS } from './topology.ts';

export interface Api {
  readonly name: string;
  /** Flags with which an agent reaches it. */
  readonly agentFlags: readonly string[];
  /** Creates or changes an object. @returns it as it is now. @throws Error with what the server said */
  put(object: ApiObject): Promise<ApiObject>;
  putStatus(object: ApiObject, status: unknown): Promise<void>;
  /** An object that is not there is fine. */
  remove(object: ApiObject): Promise<void>;
  close(): Promise<void>;
}

const RESOURCES: Readonly<Record<string, string>> = {
  Service: 'api/v1/services',
  Node: 'api/v1/nodes',
  Namespace: 'api/v1/namespaces',
  EndpointSlice: 'apis/discovery.k8s.io/v1/endpointslices',
};

function objectPath({ kind, metadata: { name, namespace } }: ApiObject): string {
  const resource = RESOURCES[kind];
  if (resource === undefined) throw new Error(`kind ${kind} is not known here`);
  const [, group = '', plural = ''] = /^(.*)\/([^/]+)$/.exec(resource) ?? [];
  return `/${group}${namespace === undefined ? '' : `/namespaces/${namespace}`}/${plural}/${name}`;
}

/** Talks to a kube-apiserver from the namespace `lan`. */
class RealApi implements Api {
  readonly name = 'kube-apiserver';
  readonly #server: ControlPlane;
  readonly #client: Netexec;
  #token = '';

  constructor() {
    this.#server = new ControlPlane({ bindAddress: LAN_IPS[0], within: (act) => within('lan', act) });
    this.#client = new Netexec('lan', { name: 'api-client', httpPort: 0, udpPort: 0, timeoutMs: 30_000 });
  }

  get agentFlags(): string[] {
    return [`--kubeconfig=${this.#server.kubeconfig}`];
  }

  async start(): Promise<void> {
    await this.#server.start();
    this.#token = JSON.parse(readFileSync(this.#server.kubeconfig, 'utf8')).users[0].user.token;
  }

  async #call(method: string, path: string, type: string, content?: unknown): Promise<ApiObject | null> {
    const headers = { authorization: `Bearer ${this.#token}`, 'content-type': type };
    const body = content === undefined ? {} : { body: JSON.stringify(content) };
    const { status, body: text } = await this.#client.fetch({ url: this.#server.url + path, method, headers, ...body });
    if (status === 404 && method === 'DELETE') return null;
    const answer = JSON.parse(text);
    if (status >= 300) throw new Error(`${method} ${path}: ${status} ${answer.message}`);
    return answer;
  }

  async put(object: ApiObject): Promise<ApiObject> {
    const path = `${objectPath(object)}?fieldManager=e2e&force=true`;
    return (await this.#call('PATCH', path, 'application/apply-patch+yaml', object))!;
  }

  async putStatus(object: ApiObject, status: unknown): Promise<void> {
    await this.#call('PATCH', `${objectPath(object)}/status`, 'application/merge-patch+json', { status });
  }

  async remove(object: ApiObject): Promise<void> {
    await this.#call('DELETE', objectPath(object), 'application/json');
  }

  async close(): Promise<void> {
    await this.#client.stop();
    await this.#server.close();
  }
}

/** The API server of the tests, with the addresses that a real one would give to Services. */
class TestApi implements Api {
  readonly name = 'the test API server';
  readonly #server = new TestApiServer({ bookmarkEveryMs: 1000 });
  readonly #services = new Map<string, Service>();
  #port = 0;
  #count = 0;

  get agentFlags(): string[] {
    return [`--master=http://${LAN_IPS[0]}:${this.#port}`];
  }

  async start(): Promise<void> {
    const url = await within('lan', () => this.#server.start(0, { everywhere: true }));
    this.#port = Number(new URL(url).port);
  }

  async put(object: ApiObject): Promise<ApiObject> {
    if (object.kind === 'Namespace') return object;
    const { name } = object.metadata;
    const present = this.#services.get(name);
    const stored = object.kind === 'Service' ? allocated(object, present, () => ++this.#count) : object;
    if (object.kind === 'Service') this.#services.set(name, stored as Service);
    const { version } = this.#server.store.put(stored as StoredObject);
    return { ...stored, metadata: { ...stored.metadata, resourceVersion: String(version) } };
  }

  async putStatus(object: ApiObject, status: unknown): Promise<void> {
    const present = object.kind === 'Service' ? this.#services.get(object.metadata.name) : undefined;
    await this.put({ ...(present ?? object), status });
  }

  async remove({ kind, metadata: { name, namespace = '' } }: ApiObject): Promise<void> {
    this.#services.delete(name);
    const key = `${namespace}/${name}`;
    const resource = kind === 'Service' ? 'services' : 'endpointslices';
    if (this.#server.store.all(resource).some((stored) => stored.key === key))
      this.#server.store.delete(kind, namespace, name);
  }

  close(): Promise<void> {
    return this.#server.close();
  }
}

/** Starts the best one there is; the namespace `lan` exists. `note` is told why it is not the real one. */
export async function startApi(kind: 'real' | 'test' | 'any', note: (text: string) => void): Promise<Api> {
  const missing = controlPlaneMissing();
  if (kind === 'real' && missing !== null) throw new Error(missing);
  if (missing !== null) note(`the test API server: ${missing}`);
  const api = kind !== 'test' && missing === null ? new RealApi() : new TestApi();
  try {
    await api.start();
  } catch (error) {
    await api.close();
    throw error;
  }
  return api;
}
