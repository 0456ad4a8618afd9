// What an API server adds to a Service: families, cluster IPs, node ports. For the test API server, which adds nothing. Pure.
import type { ApiObject, Service } from '../cluster.ts';

const FIRST_NODE_PORT = 30_000;

interface Port {
  readonly name: string;
  readonly nodePort?: number;
  readonly [field: string]: unknown;
}

/** The smallest free number from `first` on; it is added to `taken`. */
function free(taken: Set<number>, first: number): number {
  let n = first;
  while (taken.has(n)) n++;
  taken.add(n);
  return n;
}

function portsOf({ spec }: Service): number[] {
  return [...spec.ports.map(({ nodePort }) => nodePort ?? 0), spec.healthCheckNodePort ?? 0];
}

/** The Service with addresses, those of its former version `present` if it has one. Two families. */
export function allocated(object: ApiObject, present: Service | undefined, all: readonly Service[]): Service {
  const spec = object.spec as {
    type?: string;
    clusterIP?: string;
    ports: readonly Port[];
    externalTrafficPolicy?: string;
  };
  const { type = 'ClusterIP' } = spec;
  const headless = spec.clusterIP === 'None';
  const numbers = new Set(all.map(({ spec }) => Number(spec.clusterIPs?.[0]?.split('.')[3] ?? 0)));
  const address = (): string[] => {
    const n = free(numbers, 10);
    return [`10.96.0.${n}`, `fd00:10:96::${n.toString(16)}`];
  };
  const clusterIPs = headless ? ['None'] : (present?.spec.clusterIPs ?? address());
  const taken = new Set(all.flatMap(portsOf));
  const formerPort = (name: string) => present?.spec.ports.find((port) => port.name === name)?.nodePort;
  const ports = spec.ports.map((port) =>
    type === 'ClusterIP'
      ? port
      : { ...port, nodePort: port.nodePort ?? formerPort(port.name) ?? free(taken, FIRST_NODE_PORT) },
  );
  const checked = type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';
  const health = checked && { healthCheckNodePort: present?.spec.healthCheckNodePort ?? free(taken, FIRST_NODE_PORT) };
  const defaults = { type, sessionAffinity: 'None', internalTrafficPolicy: 'Cluster', ipFamilies: ['IPv4', 'IPv6'] };
  const external = type === 'ClusterIP' ? {} : { externalTrafficPolicy: 'Cluster' };
  const status = object.status ?? present?.status ?? { loadBalancer: {} };
  return {
    ...object,
    status,
    spec: {
      ...defaults,
      ...external,
      ...spec,
      ...health,
      clusterIP: clusterIPs[0]!,
      clusterIPs,
      ports: ports as never,
    },
  };
}
