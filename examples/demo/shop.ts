// The shop as its manifests describe it: the pods behind its EndpointSlices and the addresses of its Services.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ManifestObject, parseManifest } from '../../agent/source/manifest-file.ts';
import type { Family } from '../../native/ip.ts';
import type { Proto } from '../../test/support/host-calls.ts';
import type { PodSpec } from '../../test/support/network.ts';

export const NODE_NAME = 'demo-node';

const READY = 'ready: true, serving: true, terminating: false';
const TERMINATING = 'ready: false, serving: true, terminating: true';

/** What of a manifest is used here; the manifests are the demo's own, so they are not checked. */
interface Slice {
  readonly addressType: Family;
  readonly ports: readonly { readonly protocol: Proto; readonly port: number }[];
  readonly endpoints: readonly {
    readonly addresses: readonly string[];
    readonly nodeName?: string;
    readonly targetRef?: { readonly name: string };
  }[];
}

interface Service {
  readonly spec: {
    readonly clusterIPs?: readonly string[];
    readonly healthCheckNodePort?: number;
    readonly ports?: readonly { readonly protocol: Proto; readonly port: number; readonly nodePort?: number }[];
  };
  readonly status?: { readonly loadBalancer?: { readonly ingress?: readonly { readonly ip: string }[] } };
}

export interface Pod extends PodSpec {
  readonly servers: readonly { readonly proto: Proto; readonly ip: string; readonly port: number }[];
}

/** What a client dials, and how the demo calls it. */
export interface Destination {
  readonly service: string;
  readonly how: 'cluster IP' | 'node port' | 'LB IP' | 'pod';
  readonly proto: Proto;
  readonly ip: string;
  readonly port: number;
}

const familyOf = (ip: string): Family => (ip.includes(':') ? 'IPv6' : 'IPv4');

export class Shop {
  readonly pods: readonly Pod[];
  readonly #services = new Map<string, Service>();

  /** Reads all YAML files of a folder. @throws Error when one is broken */
  constructor(folder: string) {
    const objects = readdirSync(folder)
      .filter((name) => name.endsWith('.yaml'))
      .flatMap((name) => {
        const { objects, errors } = parseManifest(readFileSync(join(folder, name), 'utf8'));
        if (errors.length > 0) throw new Error(`${name}: ${errors.join('; ')}`);
        return objects;
      });
    this.pods = podsOf(objects);
    for (const { kind, namespace, name, object } of objects)
      if (kind === 'Service') this.#services.set(`${namespace}/${name}`, object as unknown as Service);
  }

  /** All Services, as `namespace/name`. */
  get services(): readonly string[] {
    return [...this.#services.keys()];
  }

  clusterIP(service: string, family: Family = 'IPv4', proto: Proto = 'TCP'): Destination {
    const { spec } = this.#service(service);
    const ip = required(
      spec.clusterIPs?.find((address) => familyOf(address) === family),
      service,
      'cluster IP',
    );
    const port = required(spec.ports?.find(({ protocol }) => protocol === proto)?.port, service, 'port');
    return { service, how: 'cluster IP', proto, ip, port };
  }

  loadBalancerIP(service: string): Destination {
    const { spec, status } = this.#service(service);
    const ip = required(status?.loadBalancer?.ingress?.[0]?.ip, service, 'load balancer IP');
    return { service, how: 'LB IP', proto: 'TCP', ip, port: required(spec.ports?.[0]?.port, service, 'port') };
  }

  /** At an address of the node. */
  nodePort(service: string, ip: string): Destination {
    const port = required(this.#service(service).spec.ports?.[0]?.nodePort, service, 'node port');
    return { service, how: 'node port', proto: 'TCP', ip, port };
  }

  healthCheckNodePort(service: string): number {
    return required(this.#service(service).spec.healthCheckNodePort, service, 'health check node port');
  }

  /** Straight to a pod, as clients of a headless Service do. */
  podOf(service: string, name: string): Destination {
    const server = required(this.pods.find((pod) => pod.name === name)?.servers[0], service, `pod ${name}`);
    return { service, how: 'pod', ...server };
  }

  #service(key: string): Service {
    return required(this.#services.get(key), key, 'manifest');
  }
}

function required<T>(value: T | undefined, service: string, what: string): T {
  if (value === undefined) throw new Error(`${service} has no ${what}`);
  return value;
}

function podsOf(objects: readonly ManifestObject[]): Pod[] {
  const pods = new Map<string, { name: string; ip: string[]; local: boolean; servers: Pod['servers'][number][] }>();
  for (const { kind, object } of objects) {
    if (kind !== 'EndpointSlice') continue;
    const { ports, endpoints } = object as unknown as Slice;
    for (const { addresses, nodeName, targetRef } of endpoints) {
      if (targetRef === undefined) continue;
      const { name } = targetRef;
      const pod = pods.get(name) ?? { name, ip: [], local: nodeName === NODE_NAME, servers: [] };
      pods.set(name, pod);
      for (const ip of addresses) {
        if (!pod.ip.includes(ip)) pod.ip.push(ip);
        for (const { protocol, port } of ports) pod.servers.push({ proto: protocol, ip, port });
      }
    }
  }
  return [...pods.values()];
}

/**
 * The text of a manifest with a pod on its way out, as Kubernetes tells it: still serving, but terminating.
 * @throws Error when no endpoint of that pod is ready
 */
export function withTerminating(text: string, pod: string): string {
  const endpoints = text.split(/^(?= *- addresses:)/m);
  const changed = endpoints.map((endpoint) =>
    new RegExp(`targetRef:.*name: ${pod}\\b`).test(endpoint) ? endpoint.replace(READY, TERMINATING) : endpoint,
  );
  const result = changed.join('');
  if (result === text) throw new Error(`no ready endpoint of pod ${pod}`);
  return result;
}
