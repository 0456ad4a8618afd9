// The plan of one Service in one family, and the same decision explained endpoint by endpoint.

import type { Frontend, ServicePlan, ServicePortPlan } from '../../backends/service-plan.ts';
import { cidrContains, type Family, parseCidr } from '../../native/ip.ts';
import type { EndpointSlice, Service, SliceEndpoint } from '../state/objects.ts';
import { endpointsOf } from './endpoints.ts';
import { frontendsOf, type ServicePort, servicePorts } from './service-ports.ts';
import { type Categorized, categorize, type ExplainedEndpoint, explainEndpoints } from './topology.ts';

/** Tells whether a ServicePort owns a frontend it wants (N-18). */
export type OwnsFrontend = (port: ServicePort, frontend: Frontend) => boolean;

export interface PlanOptions {
  /** null when it does not exist or is not selected. */
  service: Service | null;
  family: Family;
  /** Slices of the Service and family. */
  slices: readonly EndpointSlice[];
  /** This node's name, normalised (P-9), and zone; '' when unknown. */
  nodeName: string;
  zone: string;
  /** The node's primary IP of the family (P-14, S-42). */
  nodeIP: string;
  /** Feature gate AllowServiceExternalIPs (S-10). */
  allowExternalIPs: boolean;
  owns: OwnsFrontend;
}

/** null when this node has nothing to do for the Service in the family. */
export function planService(options: PlanOptions): ServicePlan | null {
  const { service, family } = options;
  if (service === null) return null;
  const ports: ServicePortPlan[] = [];
  for (const port of servicePorts(service, family)) {
    const frontends = ownedFrontends(port, options);
    if (frontends.length === 0) continue;
    const { sets, endpoints } = decide(port, options);
    ports.push({
      portName: port.portName,
      protocol: port.protocol,
      frontends,
      cluster: sets.cluster,
      local: sets.local,
      hasEndpoints: sets.hasEndpoints,
      endpointCount: endpoints.length,
      onNode: endpoints.filter((endpoint) => endpoint.local),
      internalLocal: port.internalLocal,
      externalLocal: port.externalLocal,
      affinitySeconds: port.affinitySeconds,
      sourceRanges: port.sourceRanges,
      sourcesIncludeNode: port.sourceRanges.some((range) => cidrContains(parseCidr(range)!, options.nodeIP)),
    });
  }
  return ports.length === 0
    ? null
    : {
        namespace: service.namespace,
        name: service.name,
        family,
        ports,
        healthCheckNodePort: service.healthCheckNodePort,
      };
}

/** The frontends of a ServicePort that no older claim takes away. */
export function ownedFrontends(port: ServicePort, options: Pick<PlanOptions, 'allowExternalIPs' | 'owns'>): Frontend[] {
  return frontendsOf(port, options).filter((frontend) => options.owns(port, frontend));
}

function decide(
  port: ServicePort,
  { slices, nodeName, zone }: PlanOptions,
): { endpoints: readonly SliceEndpoint[]; sets: Categorized } {
  const endpoints = endpointsOf({ slices, portName: port.portName, protocol: port.protocol });
  return { endpoints, sets: categorize({ endpoints, port, nodeName, zone }) };
}

/** What the agent decided for one port of a Service, for people. */
export interface ExplainedPort {
  readonly port: ServicePort;
  readonly sets: Categorized;
  /** Frontends another ServicePort owns. */
  readonly lost: readonly Frontend[];
  readonly endpoints: readonly ExplainedEndpoint<SliceEndpoint>[];
}

/** The reasons behind `planService` with the same options. */
export function explainService(options: PlanOptions): ExplainedPort[] {
  const { service, family } = options;
  if (service === null) return [];
  return servicePorts(service, family).map((port) => {
    const { endpoints, sets } = decide(port, options);
    const lost = frontendsOf(port, options).filter((frontend) => !options.owns(port, frontend));
    return { port, sets, lost, endpoints: explainEndpoints({ endpoints, port, sets }) };
  });
}
