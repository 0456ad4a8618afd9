// From the slices of a Service to the endpoints of its ports (E-10…E-20, E-22).
import type { Protocol } from '../../backends/service-plan.ts';
import type { EndpointSlice, SliceEndpoint } from '../state/objects.ts';

/**
 * The endpoints of a service port out of all slices of one Service and family, in the order given; sorted by key, no
 * key twice. Shares the slice's own list when only one contributes.
 */
export function endpointsOf(options: {
  slices: readonly EndpointSlice[];
  portName: string;
  protocol: Protocol;
}): readonly SliceEndpoint[] {
  const lists: (readonly SliceEndpoint[])[] = [];
  for (const slice of options.slices) {
    for (const port of slice.ports) {
      const matches = port.name === options.portName && port.protocol === options.protocol;
      if (matches && port.endpoints.length > 0) lists.push(port.endpoints);
    }
  }
  if (lists.length <= 1) return lists[0] ?? [];
  const byKey = new Map<string, SliceEndpoint>();
  for (const list of lists) {
    for (const endpoint of list) {
      if (!endpoint.terminating || !byKey.has(endpoint.key)) byKey.set(endpoint.key, endpoint); // E-18
    }
  }
  return [...byKey.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** The service ports that slices mention, each once, whether the Service has them or not (E-22). */
export function slicePorts(slices: readonly EndpointSlice[]): { portName: string; protocol: Protocol }[] {
  const out = new Map<string, { portName: string; protocol: Protocol }>();
  for (const slice of slices) {
    for (const { name, protocol } of slice.ports) out.set(`${name}/${protocol}`, { portName: name, protocol });
  }
  return [...out.values()];
}

/** Number of different IPs of local Ready endpoints, all ports of all slices together (S-53). */
export function countLocalReady(slices: readonly EndpointSlice[]): number {
  const ips = new Set<string>();
  for (const port of slicePorts(slices)) {
    for (const { local, ready, ip } of endpointsOf({ slices, ...port })) if (local && ready) ips.add(ip);
  }
  return ips.size;
}
