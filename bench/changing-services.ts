// A cluster in which something changes all the time: endpoints come, go, move and fall ill, ports change, Services are
// deleted and made again. Knows what should be there at any moment.
import type { ApiObject, ApiStore } from '../test/support/api-store.ts';
import { clusterObjects, mulberry32 } from '../test/support/cluster.ts';

interface Endpoint {
  addresses: string[];
  conditions: { ready: boolean; serving: boolean; terminating: boolean };
  nodeName: string;
}

interface Changing {
  readonly service: ApiObject & { readonly spec: Record<string, unknown> };
  readonly slice: ApiObject & { readonly endpoints: Endpoint[] };
  present: boolean;
}

/** Standing chains serve so many; a new chain would stay when the Service shrinks, which a fresh render would not have. */
const MOST_ENDPOINTS = 8;
const FIRST_NODE_PORT = 30_000;

export class ChangingServices {
  changes = 0;
  readonly #store: Pick<ApiStore, 'put' | 'delete'>;
  readonly #random: () => number;
  readonly #all: Changing[] = [];
  #addresses = 0;

  constructor(store: Pick<ApiStore, 'put' | 'delete'>, { services, seed }: { services: number; seed: number }) {
    this.#store = store;
    this.#random = mulberry32(seed);
    const objects = [...clusterObjects({ services, endpointsPerService: 4, seed })];
    for (let i = 0; i < services; i++) {
      const [service, slice] = objects.slice(2 * i, 2 * i + 2) as [Changing['service'], Changing['slice']];
      Object.assign(service.spec, specOf(i));
      if (i % 10 === 3) Object.assign(service.spec, { ports: [{ ...port(80), nodePort: FIRST_NODE_PORT + i }] });
      this.#all.push({ service, slice, present: true });
    }
  }

  /** All objects as they are now. */
  *objects(): Generator<ApiObject> {
    for (const { service, slice, present } of this.#all) if (present) yield* [service, slice];
  }

  /** Endpoints that take traffic, each counted for each Service. */
  get readyEndpoints(): number {
    const present = this.#all.filter((one) => one.present);
    return present.reduce((sum, { slice }) => sum + slice.endpoints.filter((e) => e.conditions.ready).length, 0);
  }

  get services(): number {
    return this.#all.filter((one) => one.present).length;
  }

  change(): void {
    const one = this.#all[Math.floor(this.#random() * this.#all.length)]!;
    this.changes++;
    if (!one.present) this.#appear(one);
    else {
      const kind = this.#random();
      if (kind < 0.05) this.#vanish(one);
      else if (kind < 0.1) this.#changePort(one);
      else this.#changeEndpoints(one, kind);
    }
  }

  #appear(one: Changing): void {
    one.present = true;
    this.#store.put(one.service);
    this.#store.put(one.slice);
  }

  #vanish(one: Changing): void {
    const { namespace = '', name } = one.service.metadata;
    one.present = false;
    this.#store.delete('EndpointSlice', namespace, one.slice.metadata.name);
    this.#store.delete('Service', namespace, name);
  }

  #changePort({ service }: Changing): void {
    const [old] = service.spec.ports as [{ port: number; nodePort?: number }];
    service.spec.ports = [{ ...old, port: 80 + Math.floor(this.#random() * 20) }];
    this.#store.put(service);
  }

  #changeEndpoints({ slice }: Changing, kind: number): void {
    const { endpoints } = slice;
    const at = Math.floor(this.#random() * endpoints.length);
    const one = endpoints[at];
    if (one === undefined || (kind < 0.2 && endpoints.length < MOST_ENDPOINTS)) endpoints.push(this.#endpoint());
    else if (kind < 0.3) endpoints.splice(at, 1);
    else if (kind < 0.4) one.conditions = { ...one.conditions, ready: !one.conditions.ready };
    else endpoints[at] = this.#endpoint();
    this.#store.put(slice);
  }

  #endpoint(): Endpoint {
    const n = this.#addresses++;
    const ip = `10.${200 + ((n >> 16) % 50)}.${(n >> 8) & 255}.${n & 255}`;
    const conditions = { ready: true, serving: true, terminating: false };
    return { addresses: [ip], conditions, nodeName: `node-${n % 4}` };
  }
}

const port = (number: number) => ({ name: 'http', port: number, protocol: 'TCP', targetPort: 8080 });

/** Some of the Services have node ports, some of these are Local, some have session affinity. */
function specOf(i: number): Record<string, unknown> {
  if (i % 10 === 5)
    return { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } } };
  if (i % 10 !== 3) return {};
  return { type: 'NodePort', externalTrafficPolicy: i % 20 === 3 ? 'Local' : 'Cluster' };
}
