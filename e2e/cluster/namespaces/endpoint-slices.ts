// The EndpointSlices of a Service, as the controller of a real cluster would make them from pods. Pure.
import { type ApiObject, ofFamily, type Pod, type Service } from '../cluster.ts';

export interface LabeledPod extends Pod {
  readonly labels: Readonly<Record<string, string>>;
  /** It still serves, but not for long. */
  readonly terminating: boolean;
}

interface ServicePort {
  readonly name: string;
  readonly protocol?: string;
  readonly port: number;
  readonly targetPort?: number;
}

const selects = (selector: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>>): boolean =>
  Object.entries(selector).every(([key, value]) => labels[key] === value);

/** Names of the slices a Service can have. */
export const sliceNames = (service: string): string[] => [`${service}-ipv4`, `${service}-ipv6`];

/** One for each family of the Service, in the order of the pods. */
export function endpointSlices(service: Service, pods: readonly LabeledPod[]): ApiObject[] {
  const { name, namespace, labels } = service.metadata;
  const { selector, ipFamilies = [], clusterIP, ports } = service.spec;
  const chosen = pods.filter((pod) => selects(selector as Record<string, string>, pod.labels));
  return (ipFamilies as readonly ('IPv4' | 'IPv6')[]).map((family) => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${name}-${family.toLowerCase()}`,
      ...(namespace !== undefined && { namespace }),
      labels: {
        ...labels,
        'kubernetes.io/service-name': name,
        ...(clusterIP === 'None' && { 'service.kubernetes.io/headless': '' }),
      },
    },
    addressType: family,
    endpoints: chosen.flatMap((pod) => {
      const ip = ofFamily(pod.ips, family);
      const conditions = { ready: !pod.terminating, serving: true, terminating: pod.terminating };
      return ip === undefined ? [] : [{ addresses: [ip], conditions, nodeName: pod.node }];
    }),
    ports: (ports as readonly ServicePort[]).map(({ name, protocol = 'TCP', port, targetPort }) => ({
      name,
      protocol,
      port: targetPort ?? port,
    })),
  }));
}
