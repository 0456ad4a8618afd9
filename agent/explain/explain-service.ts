// Explains a Service: which traffic goes where with what share, and why endpoints are left out. Pure; the decisions are
// those of the plan, told kind of traffic by kind of traffic (S-15…S-32).
import type { FamilySettings, Frontend, NodeSettings } from '../../backends/service-plan.ts';
import type { Family } from '../../native/ip.ts';
import { countLocalReady } from '../plan/endpoints.ts';
import { type ExplainedPort, explainService, ownedFrontends, type PlanOptions } from '../plan/plan-service.ts';
import type { ExplainedEndpoint } from '../plan/topology.ts';
import type { Problem, SliceEndpoint } from '../state/objects.ts';
import type {
  EndpointExplanation,
  PortExplanation,
  ServiceExplanation,
  TrafficExplanation,
  TrafficKind,
} from './explanation.ts';
import { leftOutWords } from './reasons.ts';

export interface ExplainOptions {
  /** One for each family the node serves, all of the same Service. */
  readonly inputs: readonly PlanOptions[];
  readonly settings: NodeSettings;
  /** Of ipvs mode, where S-90…S-94 hold; null in the other modes. */
  readonly scheduler: string | null;
  readonly problems: readonly Problem[];
  readonly refused: ServiceExplanation['refused'];
}

/** null when the Service does not exist or is not one this node handles. */
export function explain(options: ExplainOptions): ServiceExplanation | null {
  const { inputs, problems, refused } = options;
  const service = inputs[0]?.service;
  if (!service) return null;
  const ports = inputs.flatMap((input) => explainService(input).map((port) => explainPort(port, input, options)));
  const existing = inputs.filter(({ family }) => service.clusterIP[family] !== null);
  const localEndpoints: Partial<Record<Family, number>> = {};
  for (const { family, slices } of existing) localEndpoints[family] = countLocalReady(slices);
  return {
    service: service.key,
    node: { name: inputs[0]!.nodeName, zone: inputs[0]!.zone },
    ports,
    healthCheck: service.healthCheckNodePort === 0 ? null : { port: service.healthCheckNodePort, localEndpoints },
    problems,
    refused,
  };
}

function explainPort(
  explained: ExplainedPort,
  input: PlanOptions,
  { settings: node, scheduler }: ExplainOptions,
): PortExplanation {
  const { port, sets, lost } = explained;
  const frontends = ownedFrontends(port, input);
  const settings = node.families[port.family];
  const traffic = (scheduler === null ? trafficOf : ipvsTrafficOf)(explained, frontends, node, settings);
  const used = sets.cluster.length > 0 ? sets.cluster : sets.local;
  return {
    name: port.portName === '' ? port.service : `${port.service}:${port.portName}`,
    family: port.family,
    protocol: port.protocol,
    frontends,
    lost,
    nodePortAddresses: settings?.nodePortAddresses ?? [],
    internalTrafficPolicy: port.internalLocal ? 'Local' : 'Cluster',
    externalTrafficPolicy: port.externallyAccessible ? (port.externalLocal ? 'Local' : 'Cluster') : null,
    affinitySeconds: port.affinitySeconds,
    sourceRanges: port.sourceRanges,
    topology: sets.mode,
    scheduler,
    terminatingUsed: used.length > 0 && used.every((endpoint) => !endpoint.ready),
    traffic,
    endpoints: explained.endpoints.map((endpoint) => explainEndpoint(endpoint, traffic)),
  };
}

function trafficOf(
  { port, sets }: ExplainedPort,
  frontends: readonly Frontend[],
  node: NodeSettings,
  settings: FamilySettings | undefined,
): TrafficExplanation[] {
  const podsBy = settings?.detectLocal ?? null;
  const kind = (
    name: TrafficKind,
    set: 'cluster' | 'local',
    masquerade: TrafficExplanation['masquerade'],
  ): TrafficExplanation => {
    const endpoints = sets[set].length;
    const without = sets.hasEndpoints ? 'drop' : 'reject'; // S-30…S-32
    return {
      kind: name,
      set,
      fallback: false,
      outcome: endpoints > 0 ? 'endpoints' : without,
      endpoints,
      sharePercent: endpoints > 0 ? 100 / endpoints : null,
      masquerade,
      podsBy,
    };
  };
  const out: TrafficExplanation[] = [];
  if (frontends.some((frontend) => frontend.kind === 'clusterIP')) {
    const masquerade = node.masqueradeAll ? 'always' : podsBy ? 'exceptPods' : 'never'; // S-16
    out.push(kind('internal', port.internalLocal ? 'local' : 'cluster', masquerade));
  }
  if (frontends.some((frontend) => frontend.kind !== 'clusterIP')) {
    if (port.externalLocal) {
      out.push(kind('outside', 'local', 'never'), kind('inside', 'cluster', podsBy ? 'exceptPods' : 'always')); // S-20
    } else out.push(kind('external', 'cluster', 'always')); // S-18
  }
  return out;
}

/** The same in ipvs mode: where traffic comes from makes no difference, and nothing is dropped. */
function ipvsTrafficOf(
  { port, sets }: ExplainedPort,
  frontends: readonly Frontend[],
  node: NodeSettings,
  settings: FamilySettings | undefined,
): TrafficExplanation[] {
  const podsBy = settings?.detectLocal ?? null;
  const kind = (
    name: TrafficKind,
    local: boolean,
    masquerade: TrafficExplanation['masquerade'],
  ): TrafficExplanation => {
    const fallback = local && sets.local.length === 0 && sets.cluster.length > 0; // S-90, S-91
    const set = local && !fallback ? 'local' : 'cluster';
    const endpoints = sets[set].length;
    return {
      kind: name,
      set,
      fallback,
      outcome: endpoints > 0 ? 'endpoints' : 'reject', // S-92
      endpoints,
      sharePercent: endpoints === 1 ? 100 : null, // S-94
      masquerade,
      podsBy,
    };
  };
  const out: TrafficExplanation[] = [];
  if (frontends.some((frontend) => frontend.kind === 'clusterIP')) {
    out.push(kind('internal', port.internalLocal, node.masqueradeAll ? 'always' : podsBy ? 'exceptPods' : 'node')); // S-93
  }
  if (frontends.some((frontend) => frontend.kind !== 'clusterIP')) {
    out.push(kind('external', port.externalLocal, port.externalLocal ? 'never' : 'always')); // S-93
  }
  return out;
}

function explainEndpoint(
  explained: ExplainedEndpoint<SliceEndpoint>,
  traffic: readonly TrafficExplanation[],
): EndpointExplanation {
  const { endpoint } = explained;
  const shares: Partial<Record<TrafficKind, number | null>> = {};
  const leftOut: Partial<Record<TrafficKind, string>> = {};
  for (const { kind, set, outcome, sharePercent } of traffic) {
    const reason = explained[set];
    if (reason !== null) leftOut[kind] = leftOutWords(reason, endpoint, set);
    else if (outcome === 'endpoints') shares[kind] = sharePercent;
  }
  const { nodeName, local, ready, serving, terminating } = endpoint;
  return { address: endpoint.key, nodeName, local, ready, serving, terminating, shares, leftOut };
}
