// Objects of the test API server: kept as JSON text with the few facts selectors need, and a history for watches.

/** Resource names as in API paths. */
export const RESOURCES = {
  services: { prefix: '/api/v1', apiVersion: 'v1', kind: 'Service' },
  nodes: { prefix: '/api/v1', apiVersion: 'v1', kind: 'Node' },
  endpointslices: { prefix: '/apis/discovery.k8s.io/v1', apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice' },
  servicecidrs: { prefix: '/apis/networking.k8s.io/v1', apiVersion: 'networking.k8s.io/v1', kind: 'ServiceCIDR' },
} as const;
export type ResourceName = keyof typeof RESOURCES;

export interface ApiObject {
  readonly kind: string;
  readonly apiVersion?: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Record<string, string>;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

/** One version of an object. */
export interface Stored {
  readonly key: string;
  readonly version: number;
  readonly json: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly name: string;
  readonly clusterIP: string;
}

export interface StoreEvent {
  readonly resource: ResourceName;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: Stored;
  /** The version before this event. */
  readonly previous: Stored | null;
}

/** All of a store, as plain data for another process. */
export interface StoreSnapshot {
  readonly version: number;
  readonly compactedVersion: number;
  readonly objects: readonly (readonly [ResourceName, readonly Stored[]])[];
  readonly history: readonly StoreEvent[];
}

export class ApiStore {
  version = 1;
  /** Versions up to this one are no longer in the history. */
  compactedVersion = 1;
  readonly #objects = new Map<ResourceName, Map<string, Stored>>();
  #history: StoreEvent[] = [];
  readonly listeners = new Set<(event: StoreEvent) => void>();

  all(resource: ResourceName): readonly Stored[] {
    return [...(this.#objects.get(resource)?.values() ?? [])];
  }

  put(object: ApiObject): Stored {
    const resource = resourceOf(object.kind);
    const previous = this.#map(resource).get(keyOf(object)) ?? null;
    const stored = this.#store(resource, object);
    this.#record({ resource, type: previous === null ? 'ADDED' : 'MODIFIED', object: stored, previous });
    return stored;
  }

  /** Takes many objects without telling watchers, as if they had been there before the server started. */
  load(objects: Iterable<ApiObject>): void {
    for (const object of objects) this.#store(resourceOf(object.kind), object);
    this.compact();
  }

  delete(kind: string, namespace: string, name: string): void {
    const resource = resourceOf(kind);
    const key = `${namespace}/${name}`;
    const previous = this.#map(resource).get(key);
    if (previous === undefined) throw new Error(`no ${kind} ${key}`);
    this.#map(resource).delete(key);
    const object: ApiObject = JSON.parse(previous.json);
    this.version++;
    this.#record({ resource, type: 'DELETED', object: this.#stored(object), previous });
  }

  /** Events after a version, or null when the history no longer reaches back that far. */
  since(version: number): readonly StoreEvent[] | null {
    if (version < this.compactedVersion) return null;
    return this.#history.filter((e) => e.object.version > version);
  }

  /** Forgets the history up to a version, as compaction of etcd does; all of it unless told. */
  compact(version = this.version): void {
    this.#history = this.#history.filter((e) => e.object.version > version);
    this.compactedVersion = Math.max(this.compactedVersion, version);
  }

  snapshot(): StoreSnapshot {
    const { version, compactedVersion } = this;
    const objects = [...this.#objects].map(([name, map]) => [name, [...map.values()]] as const);
    return { version, compactedVersion, objects, history: this.#history };
  }

  /** Becomes what another store was. */
  restore({ version, compactedVersion, objects, history }: StoreSnapshot): void {
    this.version = version;
    this.compactedVersion = compactedVersion;
    this.#objects.clear();
    for (const [name, list] of objects) this.#objects.set(name, new Map(list.map((o) => [o.key, o])));
    this.#history = [...history];
  }

  /** Takes over a change that another store recorded. */
  replay(event: StoreEvent): void {
    const { resource, type, object } = event;
    this.version = object.version;
    if (type === 'DELETED') this.#map(resource).delete(object.key);
    else this.#map(resource).set(object.key, object);
    this.#record(event);
  }

  /** Goes back to a lower version with the present objects, as a restored backup does; watches are not told. */
  rewind(version: number): void {
    this.version = version;
    for (const [resource, objects] of this.#objects) {
      const restored = [...objects.values()].map((o): ApiObject => JSON.parse(o.json));
      objects.clear();
      for (const object of restored) this.#store(resource, object);
    }
    this.compact();
  }

  #map(resource: ResourceName): Map<string, Stored> {
    let map = this.#objects.get(resource);
    if (map === undefined) this.#objects.set(resource, (map = new Map()));
    return map;
  }

  #store(resource: ResourceName, object: ApiObject): Stored {
    this.version++;
    const stored = this.#stored(object);
    this.#map(resource).set(stored.key, stored);
    return stored;
  }

  #stored(object: ApiObject): Stored {
    const { apiVersion } = RESOURCES[resourceOf(object.kind)];
    const metadata = { ...object.metadata, resourceVersion: String(this.version) };
    const spec = object.spec as { clusterIP?: string } | undefined;
    return {
      key: keyOf(object),
      version: this.version,
      json: JSON.stringify({ apiVersion, ...object, metadata }),
      // Tests send labels of wrong types as well.
      labels: typeof object.metadata.labels === 'object' ? (object.metadata.labels ?? {}) : {},
      name: object.metadata.name,
      clusterIP: spec?.clusterIP ?? '',
    };
  }

  #record(event: StoreEvent): void {
    this.#history.push(event);
    for (const listener of this.listeners) listener(event);
  }
}

export function resourceOf(kind: string): ResourceName {
  for (const [name, { kind: k }] of Object.entries(RESOURCES)) if (k === kind) return name as ResourceName;
  throw new Error(`kind ${kind} is not served`);
}

function keyOf({ metadata }: ApiObject): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`;
}

/** A predicate for the selectors the agent uses: `!label`, `label=value`, `metadata.name=x`, `spec.clusterIP!=x`. */
export function selector(query: URLSearchParams): (object: Stored) => boolean {
  const tests: ((o: Stored) => boolean)[] = [];
  for (const term of terms(query.get('labelSelector'))) {
    const [, not, key = '', value] = /^(!?)([^=]+)(?:=(.*))?$/.exec(term) ?? [];
    if (value !== undefined) tests.push((o) => o.labels[key] === value);
    else tests.push((o) => key in o.labels !== (not === '!'));
  }
  for (const term of terms(query.get('fieldSelector'))) {
    const [, field, operator, value] = /^([\w.]+)(!?=)(.*)$/.exec(term) ?? [];
    if (field !== 'metadata.name' && field !== 'spec.clusterIP')
      throw new Error(`field selector ${term} is not served`);
    tests.push((o) => ((field === 'metadata.name' ? o.name : o.clusterIP) === value) === (operator === '='));
  }
  return (object) => tests.every((test) => test(object));
}

function terms(text: string | null): string[] {
  return (text ?? '').split(',').filter((term) => term !== '');
}
