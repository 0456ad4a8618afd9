// What the agent tells a backend: plans of Services and settings of the node. A backend sees nothing else of Kubernetes.
import type { Family } from '../native/ip.ts';

export type Protocol = 'TCP' | 'UDP' | 'SCTP';

/** A pod address behind a ServicePort, with its facts (E-17). Immutable and shared between plans. */
export interface Endpoint {
  /** Canonical text. */
  readonly ip: string;
  readonly port: number;
  /** `ip:port` or `[ip]:port`; identifies the endpoint inside its ServicePort (E-18) and sorts it (E-20). */
  readonly key: string;
  /** Runs on this node (E-16). */
  readonly local: boolean;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  /** Zones and nodes this endpoint is hinted for; null when it carries no such hint. */
  readonly zoneHints: readonly string[] | null;
  readonly nodeHints: readonly string[] | null;
}

export type FrontendKind = 'clusterIP' | 'externalIP' | 'loadBalancer' | 'nodePort';

/** An address clients dial. Within one ServicePortPlan no two frontends are equal in kind and address. */
export interface Frontend {
  readonly kind: FrontendKind;
  /** Canonical text; null for a node port, which is served on any accepted node IP (S-50). */
  readonly ip: string | null;
  readonly port: number;
}

/** What becomes of one port of a Service in one family. */
export interface ServicePortPlan {
  /** Name of the port, '' when unnamed. */
  readonly portName: string;
  readonly protocol: Protocol;
  /** Those this ServicePort owns: a frontend claimed by two ServicePorts is in the plan of one of them only (N-18). */
  readonly frontends: readonly Frontend[];
  /** The cluster set (E-28) and the local set (E-29), sorted by key. */
  readonly cluster: readonly Endpoint[];
  readonly local: readonly Endpoint[];
  /** E-31; decides between reject and drop when the set that applies is empty (S-30…S-32). */
  readonly hasEndpoints: boolean;
  /** All endpoints of the ServicePort, usable or not (I-31). */
  readonly endpointCount: number;
  /** Those on this node, usable or not (V-25). */
  readonly onNode: readonly Endpoint[];
  /** Internal (cluster IP) traffic uses the local set only (E-23). */
  readonly internalLocal: boolean;
  /** External traffic from outside uses the local set only (E-24). */
  readonly externalLocal: boolean;
  /** ClientIP affinity timeout in seconds, or null (S-13). */
  readonly affinitySeconds: number | null;
  /** Canonical CIDRs that may reach the loadBalancer frontends; empty allows all (S-12). */
  readonly sourceRanges: readonly string[];
  /** One of the ranges holds the node's IP: the load balancer IPs themselves are allowed sources too (S-42). */
  readonly sourcesIncludeNode: boolean;
}

/** Everything this node must do for one Service in one family. */
export interface ServicePlan {
  readonly namespace: string;
  readonly name: string;
  readonly family: Family;
  readonly ports: readonly ServicePortPlan[];
  /** 0 = none (S-52). */
  readonly healthCheckNodePort: number;
}

/** One Service of one family to program; `plan` null removes it. */
export interface PlanChange {
  /** `namespace/name`. */
  readonly service: string;
  readonly family: Family;
  readonly plan: ServicePlan | null;
}

/** How to tell traffic of this node's pods from other traffic (S-64). */
export type DetectLocal =
  | { readonly by: 'cidr'; readonly cidr: string }
  | { readonly by: 'interface'; readonly name: string }
  | { readonly by: 'interfacePrefix'; readonly prefix: string };

/** Settings of one family. */
export interface FamilySettings {
  /** null when not configured for the family (S-65). */
  readonly detectLocal: DetectLocal | null;
  /**
   * Addresses node ports are served on; 'all' = every local address (S-50). Loopback ones are among them only with
   * localhostNodePorts.
   */
  readonly nodePortAddresses: 'all' | readonly string[];
  /** iptables mode, IPv4: node ports answer on loopback addresses too (S-54). */
  readonly localhostNodePorts: boolean;
  /** ipvs mode: canonical addresses of the node's own interfaces, loopback and link-local ones left out (V-8). */
  readonly hostAddresses: readonly string[];
  /** Canonical ServiceCIDRs (S-77). */
  readonly serviceCidrs: readonly string[];
}

/** What a backend must know of the node, apart from Services. */
export interface NodeSettings {
  readonly masqueradeAll: boolean;
  /** Bit of the packet mark, 0…31 (S-66). */
  readonly masqueradeBit: number;
  /** iptables mode: packets in conntrack state INVALID are dropped in FORWARD (S-78). */
  readonly dropInvalid: boolean;
  readonly families: Readonly<Partial<Record<Family, FamilySettings>>>;
}

/** `namespace/name:port`, or `namespace/name` for an unnamed port: how a ServicePort is written in logs and comments. */
export function servicePortName(plan: ServicePlan, port: ServicePortPlan): string {
  return `${plan.namespace}/${plan.name}${port.portName === '' ? '' : `:${port.portName}`}`;
}
