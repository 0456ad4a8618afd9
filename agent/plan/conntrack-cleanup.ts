// Which UDP conntrack entries lead clients to a back end that is gone (S-80…S-84). Pure: the caller lists and deletes.
import type { EndpointSlice, Service } from '../state/objects.ts';
import { endpointsOf } from './endpoints.ts';
import { ownedFrontends, type PlanOptions } from './plan-service.ts';
import { servicePorts } from './service-ports.ts';

/** One direction of a conntrack entry; addresses canonical. */
export interface ConntrackTuple {
  readonly src: string;
  readonly sport: number;
  readonly dst: string;
  readonly dport: number;
}

export interface ConntrackEntry {
  readonly protocol: string;
  readonly original: ConntrackTuple;
  readonly reply: ConntrackTuple;
}

/** A UDP ServicePort that takes part in the cleaning (S-81). */
export interface UdpServicePort {
  /** The addresses it owns: `ip port` of each IP frontend. */
  readonly frontends: readonly string[];
  /** 0 = none. */
  readonly nodePort: number;
  /** `ip port` of all serving endpoints. */
  readonly backends: ReadonlySet<string>;
}

const at = (ip: string, port: number) => `${ip} ${port}`;

/** The UDP ServicePorts of a Service with at least one serving endpoint (S-81, S-84). */
export function udpServicePorts(
  options: Pick<PlanOptions, 'family' | 'allowExternalIPs' | 'owns'> & {
    service: Service | null;
    slices: readonly EndpointSlice[];
  },
): UdpServicePort[] {
  if (options.service === null) return [];
  const out: UdpServicePort[] = [];
  for (const port of servicePorts(options.service, options.family)) {
    if (port.protocol !== 'UDP') continue;
    const endpoints = endpointsOf({ slices: options.slices, portName: port.portName, protocol: 'UDP' });
    const backends = new Set(endpoints.filter((e) => e.serving).map((e) => at(e.ip, e.port)));
    const owned = ownedFrontends(port, options);
    if (backends.size === 0 || owned.length === 0) continue;
    out.push({
      frontends: owned.filter((frontend) => frontend.ip !== null).map((frontend) => at(frontend.ip!, frontend.port)),
      nodePort: owned.find((frontend) => frontend.ip === null)?.port ?? 0,
      backends,
    });
  }
  return out;
}

/** The entries to delete, in the order given; O(ports + entries) (S-82). */
export function staleEntries<E extends ConntrackEntry>(ports: readonly UdpServicePort[], entries: Iterable<E>): E[] {
  const byAddress = new Map<string, ReadonlySet<string>>();
  const byNodePort = new Map<number, ReadonlySet<string>>();
  for (const port of ports) {
    for (const frontend of port.frontends) byAddress.set(frontend, port.backends);
    if (port.nodePort !== 0) byNodePort.set(port.nodePort, port.backends);
  }
  const stale: E[] = [];
  for (const entry of entries) {
    if (entry.protocol !== 'UDP') continue;
    const { original, reply } = entry;
    const accepted = [byAddress.get(at(original.dst, original.dport)), byNodePort.get(original.dport)];
    if (accepted.some((backends) => backends !== undefined && !backends.has(at(reply.src, reply.sport)))) {
      stale.push(entry);
    }
  }
  return stale;
}
