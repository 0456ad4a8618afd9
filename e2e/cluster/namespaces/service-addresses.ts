// What an API server adds to a Service: families, cluster IPs, node ports. For the test API server, which adds nothing. Pure.
import type { ApiObject, Service } from '../cluster.ts';

const FIRST_NODE_PORT = 30_000;

interface Port {
  readonly name: string;
  readonly nodePort?: number;
  readonly [field: string]: unknown;
}

/**
 * The Service with addresses, those of its former version `present` if it has one. Two families.
 * @param next counts: what one Service had another one never gets, because connection tracking remembers for minutes where
 * connections to an address went
 */
export function allocated(object: ApiObject, present: Service | undefined, next: () => number): Service {
  const spec = object.spec as {
    type?: string;
    clusterIP?: string;
    ports: readonly Port[];
    externalTrafficPolicy?: string;
  };
  const { type = 'ClusterIP' } = spec;
  const address = (n: number): string[] => [`10.96.${10 + (n >> 8)}.${n & 255}`, `fd00:10:96::${n.toString(16)}`];
  const clusterIPs = spec.clusterIP === 'None' ? ['None'] : (present?.spec.clusterIPs ?? address(next()));
  const free = (): number => FIRST_NODE_PORT + next();
  const formerPort = (name: string) => present?.spec.ports.find((port) => port.name === name)?.nodePort;
  const ports = spec.ports.map((port) =>
    type === 'ClusterIP' ? port : { ...port, nodePort: port.nodePort ?? formerPort(port.name) ?? free() },
  );
  const checked = type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';
  const health = checked && { healthCheckNodePort: present?.spec.healthCheckNodePort ?? free() };
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
