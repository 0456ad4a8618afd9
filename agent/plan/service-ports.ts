// What a Service says about each of its ports in one family: addresses, policies, affinity (E-3…E-5, E-23…E-27, S-9…S-14).

import type { Frontend, Protocol } from '../../backends/service-plan.ts';
import type { Family } from '../../native/ip.ts';
import type { Service } from '../state/objects.ts';

/** One port of a Service in one family. */
export interface ServicePort {
  /** `namespace/name`. */
  readonly service: string;
  readonly family: Family;
  /** '' when unnamed. */
  readonly portName: string;
  readonly protocol: Protocol;
  readonly clusterIP: string;
  readonly port: number;
  /** 0 = none. */
  readonly nodePort: number;
  readonly externalIPs: readonly string[];
  /** Load balancer IPs in VIP mode (S-11). */
  readonly loadBalancerIPs: readonly string[];
  /** Canonical CIDRs; empty allows all (S-12). */
  readonly sourceRanges: readonly string[];
  readonly internalLocal: boolean;
  readonly externalLocal: boolean;
  /** E-25. */
  readonly externallyAccessible: boolean;
  /** E-26: the cluster set matters. */
  readonly usesCluster: boolean;
  /** E-27: the local set matters. */
  readonly usesLocal: boolean;
  /** Of the whole Service, 0 = none (S-52). */
  readonly healthCheckNodePort: number;
  /** null = no affinity. */
  readonly affinitySeconds: number | null;
}

/** The ServicePorts of a Service in one family, sorted by name; none when it does not exist there (E-3). */
export function servicePorts(service: Service, family: Family): ServicePort[] {
  const clusterIP = service.clusterIP[family];
  if (clusterIP === null) return [];
  const externalIPs = service.externalIPs[family];
  const loadBalancerIPs = service.loadBalancerIPs[family];
  const { internalLocal, externalLocal } = service;
  return service.ports.map(({ name, protocol, port, nodePort }) => {
    const externallyAccessible = nodePort !== 0 || loadBalancerIPs.length > 0 || externalIPs.length > 0;
    return {
      service: service.key,
      family,
      portName: name,
      protocol,
      clusterIP,
      port,
      nodePort,
      externalIPs,
      loadBalancerIPs,
      sourceRanges: service.sourceRanges[family],
      internalLocal,
      externalLocal,
      externallyAccessible,
      usesCluster: !internalLocal || externallyAccessible,
      usesLocal: internalLocal || (externalLocal && externallyAccessible),
      healthCheckNodePort: service.healthCheckNodePort,
      affinitySeconds: service.affinitySeconds,
    };
  });
}

/** Every address at which a ServicePort wants to be dialled; external IPs only when allowed (S-10). */
export function frontendsOf(port: ServicePort, options: { allowExternalIPs: boolean }): Frontend[] {
  const out: Frontend[] = [{ kind: 'clusterIP', ip: port.clusterIP, port: port.port }];
  if (options.allowExternalIPs) {
    for (const ip of port.externalIPs) out.push({ kind: 'externalIP', ip, port: port.port });
  }
  for (const ip of port.loadBalancerIPs) out.push({ kind: 'loadBalancer', ip, port: port.port });
  if (port.nodePort !== 0) out.push({ kind: 'nodePort', ip: null, port: port.nodePort });
  return out;
}

/** Whether two states of a Service mean the same in a family; null = it does not exist (E-46). */
export function sameServicePorts(a: Service | null, b: Service | null, family: Family): boolean {
  if (a === b) return true;
  const portsOf = (service: Service | null) => (service === null ? [] : servicePorts(service, family));
  const [portsA, portsB] = [portsOf(a), portsOf(b)];
  if (portsA.length !== portsB.length) return false;
  return portsA.length === 0 || JSON.stringify(portsA) === JSON.stringify(portsB);
}
