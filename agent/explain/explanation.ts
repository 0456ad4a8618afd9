// What an explanation of a Service says. Plain data: it travels as JSON.
import type { DetectLocal, Frontend, Protocol } from '../../backends/service-plan.ts';
import type { Family } from '../../native/ip.ts';
import type { TopologyMode } from '../plan/topology.ts';
import type { Problem } from '../state/problem.ts';

export interface ServiceExplanation {
  /** `namespace/name`. */
  readonly service: string;
  readonly node: { readonly name: string /** '' when unknown. */; readonly zone: string };
  readonly ports: readonly PortExplanation[];
  readonly healthCheck: {
    readonly port: number;
    /** What it reports in each family (S-53). */
    readonly localEndpoints: Readonly<Partial<Record<Family, number>>>;
  } | null;
  /** Of the Service and its slices. */
  readonly problems: readonly Problem[];
  /** The kernel did not take it; what is told here is then not in force. */
  readonly refused: readonly { readonly family: Family; readonly message: string }[];
}

/** One ServicePort in one family. */
export interface PortExplanation {
  /** `namespace/name:port`. */
  readonly name: string;
  readonly family: Family;
  readonly protocol: Protocol;
  readonly frontends: readonly Frontend[];
  /** Frontends that belong to another ServicePort. */
  readonly lost: readonly Frontend[];
  /** Where its node port is served. */
  readonly nodePortAddresses: 'all' | readonly string[];
  readonly internalTrafficPolicy: 'Cluster' | 'Local';
  /** null without external traffic. */
  readonly externalTrafficPolicy: 'Cluster' | 'Local' | null;
  readonly affinitySeconds: number | null;
  /** Who may use the load balancer IPs; empty = everybody. */
  readonly sourceRanges: readonly string[];
  /** How the endpoints for the whole cluster were chosen. */
  readonly topology: TopologyMode;
  /** ipvs mode: who chooses among the endpoints (S-94); null: chance, with equal shares. */
  readonly scheduler: string | null;
  /** No endpoint is ready; those used are terminating. */
  readonly terminatingUsed: boolean;
  readonly traffic: readonly TrafficExplanation[];
  readonly endpoints: readonly EndpointExplanation[];
}

/**
 * `internal`: to the cluster IP. `external`: to every other frontend, from anywhere. With externalTrafficPolicy Local
 * the latter is two kinds, but in ipvs mode: from `outside`, and from `inside`, that is this node and its pods (S-20).
 */
export type TrafficKind = 'internal' | 'external' | 'outside' | 'inside';

export interface TrafficExplanation {
  readonly kind: TrafficKind;
  /** Endpoints of the whole cluster, or of this node only. */
  readonly set: 'cluster' | 'local';
  /** ipvs mode: the policy is Local, but no endpoint is on this node: those of the cluster stand in (S-90, S-91). */
  readonly fallback: boolean;
  readonly outcome: 'endpoints' | 'reject' | 'drop';
  readonly endpoints: number;
  /** Of each endpoint, in percent; null without endpoints, and where a scheduler chooses among several. */
  readonly sharePercent: number | null;
  /** `exceptPods`: all but the traffic of pods that `podsBy` tells. `node`: that of this node only (S-93). */
  readonly masquerade: 'never' | 'always' | 'exceptPods' | 'node';
  /** How traffic of this node's pods is told; null when it is not. */
  readonly podsBy: DetectLocal | null;
}

export interface EndpointExplanation {
  /** `ip:port`. */
  readonly address: string;
  /** null when the slice does not say. */
  readonly nodeName: string | null;
  readonly local: boolean;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  /** Percent of each kind of traffic that reaches it; null: the scheduler decides. */
  readonly shares: Readonly<Partial<Record<TrafficKind, number | null>>>;
  /** Why it gets nothing of a kind. */
  readonly leftOut: Readonly<Partial<Record<TrafficKind, string>>>;
}
