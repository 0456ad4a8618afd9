// Objects of a made-up cluster, as large and as shaped as real ones, the same for the same options.
import type { ApiObject } from './api-store.ts';

export interface ClusterOptions {
  readonly services: number;
  readonly endpointsPerService: number;
  readonly nodes?: number;
  readonly seed?: number;
}

export interface Cluster {
  /** The first of `nodeNames`. */
  readonly node: ApiObject;
  readonly nodeNames: readonly string[];
  readonly serviceCidrs: readonly ApiObject[];
  readonly services: readonly ApiObject[];
  readonly endpointSlices: readonly ApiObject[];
}

const SLICE_SIZE = 100;
const SERVICES_PER_NAMESPACE = 200;
const TIME = '2026-11-02T08:15:30Z';

/** One TCP port 80 → 8080 for each Service, cluster IPs from 10.96.0.0/12, pods in 10.128.0.0/9 (up to 8 million). */
export function makeCluster(options: ClusterOptions): Cluster {
  const services: ApiObject[] = [];
  const endpointSlices: ApiObject[] = [];
  for (const object of clusterObjects(options)) (object.kind === 'Service' ? services : endpointSlices).push(object);
  const nodeNames = namesOfNodes(options);
  return { node: makeNode(nodeNames[0]!), nodeNames, serviceCidrs: [makeServiceCidr()], services, endpointSlices };
}

/** The Services and EndpointSlices one by one, for servers that do not want to hold them all as objects. */
export function* clusterObjects(options: ClusterOptions): Generator<ApiObject> {
  const nodeNames = namesOfNodes(options);
  const random = mulberry32(options.seed ?? 1);
  let pod = 0;
  for (let i = 0; i < options.services; i++) {
    const namespace = `ns-${Math.floor(i / SERVICES_PER_NAMESPACE)}`;
    const name = `svc-${i}`;
    yield makeService(namespace, name, address(10, 96, i + 100), random);
    for (let first = 0; first < options.endpointsPerService; first += SLICE_SIZE) {
      const count = Math.min(SLICE_SIZE, options.endpointsPerService - first);
      const endpoints = Array.from({ length: count }, () => {
        const node = Math.floor(random() * nodeNames.length);
        return makeEndpoint(namespace, name, address(10, 128, ++pod), nodeNames[node]!, `zone-${node % 3}`, random);
      });
      yield makeSlice(namespace, name, endpoints, random);
    }
  }
}

export function makeNode(name: string): ApiObject {
  return {
    kind: 'Node',
    metadata: {
      name,
      labels: { 'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux', 'topology.kubernetes.io/zone': 'zone-0' },
    },
    spec: { podCIDR: '10.128.0.0/24', podCIDRs: ['10.128.0.0/24'] },
    status: {
      addresses: [
        { type: 'InternalIP', address: '192.168.0.1' },
        { type: 'Hostname', address: name },
      ],
    },
  };
}

export function makeServiceCidr(name = 'kubernetes', cidrs: readonly string[] = ['10.96.0.0/12']): ApiObject {
  return { kind: 'ServiceCIDR', metadata: { name }, spec: { cidrs }, status: {} };
}

function namesOfNodes({ nodes = 10 }: ClusterOptions): string[] {
  return Array.from({ length: nodes }, (_, i) => `node-${i}`);
}

function makeService(namespace: string, name: string, clusterIP: string, random: () => number): ApiObject {
  return {
    kind: 'Service',
    apiVersion: 'v1',
    metadata: {
      ...metadata(namespace, name, random),
      labels: { app: name, 'app.kubernetes.io/managed-by': 'Helm' },
      annotations: { 'meta.helm.sh/release-name': name, 'meta.helm.sh/release-namespace': namespace },
      managedFields: [
        managedBy('helm', {
          'f:spec': {
            'f:internalTrafficPolicy': {},
            'f:ports': { '.': {} },
            'f:selector': {},
            'f:sessionAffinity': {},
            'f:type': {},
          },
        }),
      ],
    },
    spec: {
      clusterIP,
      clusterIPs: [clusterIP],
      internalTrafficPolicy: 'Cluster',
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
      ports: [{ name: 'http', port: 80, protocol: 'TCP', targetPort: 8080 }],
      selector: { app: name },
      sessionAffinity: 'None',
      type: 'ClusterIP',
    },
    status: { loadBalancer: {} },
  };
}

function makeSlice(namespace: string, service: string, endpoints: unknown[], random: () => number): ApiObject {
  return {
    kind: 'EndpointSlice',
    apiVersion: 'discovery.k8s.io/v1',
    metadata: {
      ...metadata(namespace, `${service}-${text(random, 5)}`, random),
      generateName: `${service}-`,
      labels: {
        app: service,
        'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
        'kubernetes.io/service-name': service,
      },
      annotations: { 'endpoints.kubernetes.io/last-change-trigger-time': TIME },
      ownerReferences: [
        {
          apiVersion: 'v1',
          blockOwnerDeletion: true,
          controller: true,
          kind: 'Service',
          name: service,
          uid: uid(random),
        },
      ],
      managedFields: [
        managedBy('kube-controller-manager', {
          'f:addressType': {},
          'f:endpoints': {},
          'f:metadata': {},
          'f:ports': {},
        }),
      ],
    },
    addressType: 'IPv4',
    endpoints,
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
  };
}

function makeEndpoint(
  namespace: string,
  service: string,
  ip: string,
  nodeName: string,
  zone: string,
  random: () => number,
): unknown {
  return {
    addresses: [ip],
    conditions: { ready: true, serving: true, terminating: false },
    nodeName,
    targetRef: { kind: 'Pod', name: `${service}-${text(random, 9)}-${text(random, 5)}`, namespace, uid: uid(random) },
    zone,
  };
}

function metadata(namespace: string, name: string, random: () => number) {
  return { name, namespace, uid: uid(random), creationTimestamp: TIME, generation: 1 };
}

function managedBy(manager: string, fields: unknown): unknown {
  return { apiVersion: 'v1', fieldsType: 'FieldsV1', fieldsV1: fields, manager, operation: 'Update', time: TIME };
}

/** The address at an offset into `a.b.0.0` (a block of at most 24 bits). */
function address(a: number, b: number, offset: number): string {
  const n = b * 65536 + offset;
  return `${a}.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`;
}

function text(random: () => number, length: number): string {
  return Array.from({ length }, () => 'bcdfghjklmnpqrstvwxz2456789'[Math.floor(random() * 27)]).join('');
}

function uid(random: () => number): string {
  const hex = Array.from({ length: 4 }, () =>
    Math.floor(random() * 2 ** 32)
      .toString(16)
      .padStart(8, '0'),
  ).join('');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20)}`;
}

/** A small seeded generator of numbers in [0, 1). */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
