// Services to their ports per family (E-1…E-4, E-23…E-25, S-9…S-13).
import { type ServicePort, servicePorts } from '../../../agent/plan/service-ports.ts';
import { FAMILIES } from '../../../native/ip.ts';
import { sameSet, stateOf, type Vector } from '../vector.ts';

export function run({ input, expect }: Vector): void {
  const state = stateOf(input);
  for (const family of FAMILIES) {
    const ports = [...state.serviceKeys()].flatMap((key) => servicePorts(state.service(key)!, family));
    sameSet(ports.map(form), expect[family].map(sortLists), family);
  }
}

function form(port: ServicePort): unknown {
  const { service, portName, protocol, clusterIP, nodePort, externalIPs, sourceRanges } = port;
  return sortLists({
    service,
    portName,
    protocol,
    clusterIP,
    port: port.port,
    nodePort,
    externalIPs,
    loadBalancerVIPs: port.loadBalancerIPs,
    sourceRanges,
    internalLocal: port.internalLocal,
    externalLocal: port.externalLocal,
    externallyAccessible: port.externallyAccessible,
    healthCheckNodePort: port.healthCheckNodePort,
    affinityTimeoutSeconds: port.affinitySeconds,
  });
}

function sortLists(port: object): object {
  return Object.fromEntries(
    Object.entries(port).map(([name, value]) => [name, Array.isArray(value) ? [...value].sort() : value]),
  );
}
