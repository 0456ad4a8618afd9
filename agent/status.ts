// What a running agent tells about itself: `agentctl status`. Computed when asked for; costs a walk over the Services,
// not over their endpoints.

import type { NodeSettings } from '../backends/service-plan.ts';
import { FAMILIES, type Family } from '../native/ip.ts';
import type { ProxyMode } from './config/types.ts';
import { type ProxyHealthStatus, servesWell } from './serve/proxy-health.ts';
import type { WatchStatus } from './source/source.ts';
import type { Problem } from './state/objects.ts';
import type { State } from './state/state.ts';
import type { SyncReport } from './sync/sync-loop.ts';

/** Times are milliseconds since the epoch. */
export interface Status {
  readonly version: string;
  readonly mode: ProxyMode;
  readonly pid: number;
  readonly node: { readonly name: string; readonly zone: string };
  readonly families: readonly Family[];
  readonly nowMs: number;
  readonly startedMs: number;
  readonly verdict: Verdict;
  /** What keeps the verdict from being `healthy`. */
  readonly reasons: readonly string[];
  /** null before the first sync is due. */
  readonly sync: SyncReport | null;
  readonly counts: ObjectCounts;
  readonly health: ProxyHealthStatus;
  readonly watches: readonly WatchStatus[];
  readonly conditions: readonly { readonly name: string; readonly message: string }[];
  readonly repairs: Repairs;
  /** Of objects: what of them cannot be used. */
  readonly problems: readonly Problem[];
  /** null before the first sync is due. */
  readonly settings: NodeSettings | null;
  readonly rssBytes: number;
}

/** `starting`: not yet synced for the first time. `degraded`: it works, but not all of it. */
export type Verdict = 'healthy' | 'starting' | 'degraded' | 'unhealthy';

/** Foreign changes of the rules that were found and put right. */
export interface Repairs {
  count: number;
  last: { readonly atMs: number; readonly description: string; readonly culprit: string | null } | null;
}

/** What the Services add up to on this node; a Service of two families counts once, all else in each. */
export interface ObjectCounts {
  readonly services: number;
  readonly servicePorts: number;
  /** As wanted: one that two ServicePorts claim counts twice. */
  readonly frontends: number;
  /** Of ServicePorts, ready or not. */
  readonly endpoints: number;
}

export interface StatusOptions {
  readonly version: string;
  readonly mode: ProxyMode;
  readonly startedMs: number;
  readonly state: State;
  readonly families: readonly Family[];
  readonly sync: SyncReport | null;
  readonly health: ProxyHealthStatus;
  readonly watches: readonly WatchStatus[];
  readonly conditions: ReadonlyMap<string, string>;
  /** Health check node ports that cannot be opened. */
  readonly closedHealthPorts?: readonly { readonly service: string; readonly message: string }[];
  readonly repairs: Repairs;
  readonly settings: NodeSettings | null;
  readonly nowMs: number;
}

export function collectStatus(options: StatusOptions): Status {
  const { version, mode, state, families, nowMs, startedMs, sync, health, watches, repairs, settings } = options;
  const conditions = [...options.conditions].map(([name, message]) => ({ name, message }));
  return {
    version,
    mode,
    pid: process.pid,
    node: { name: state.nodeName, zone: state.zone },
    families,
    nowMs,
    startedMs,
    ...judge({ sync, health, watches, conditions }),
    sync,
    counts: countObjects(state),
    health,
    watches,
    conditions,
    repairs,
    problems: [
      ...state.problems(),
      ...(options.closedHealthPorts ?? []).map(({ service, message }) => ({
        object: `Service ${service}`,
        field: 'spec.healthCheckNodePort',
        message,
      })),
    ],
    settings,
    rssBytes: process.memoryUsage.rss(),
  };
}

/** Objects that are broken themselves do not make the agent degraded, nor does a Node that takes no load balancer traffic. */
export function judge({
  sync,
  health,
  watches,
  conditions,
}: Pick<Status, 'sync' | 'health' | 'watches' | 'conditions'>): Pick<Status, 'verdict' | 'reasons'> {
  const late = Object.entries(health.families).flatMap(([family, { healthy }]) =>
    healthy ? [] : [`${family} is behind with its syncs`],
  );
  const missing = watches.flatMap(({ kind, complete }) => (complete ? [] : [kind]));
  const waiting = missing.length > 0 ? [`waiting for the first list of ${missing.join(', ')}`] : [];
  const refused = sync?.refused.length ?? 0;
  const failing = sync?.lastError ?? null;
  const partly = [
    ...(refused > 0 ? [`the kernel refused ${refused} Service${refused === 1 ? '' : 's'}`] : []),
    ...(failing !== null && refused === 0 ? [`the last sync failed: ${failing}`] : []),
    ...watches.flatMap(({ kind, optional, lastError }) =>
      lastError === null || optional ? [] : [`watch of ${kind}: ${lastError}`],
    ),
    ...conditions.map(({ name, message }) => `${name}: ${message}`),
  ];
  const reasons = [...late, ...health.problems.map(({ message }) => message), ...waiting, ...partly];
  if (!servesWell(health)) return { verdict: 'unhealthy', reasons };
  if (sync === null || sync.lastSyncMs === null) return { verdict: 'starting', reasons };
  return { verdict: reasons.length > 0 ? 'degraded' : 'healthy', reasons };
}

function countObjects(state: State): ObjectCounts {
  let services = 0;
  let servicePorts = 0;
  let frontends = 0;
  let endpoints = 0;
  for (const key of state.serviceKeys()) {
    const service = state.service(key)!;
    services++;
    for (const family of FAMILIES) {
      if (service.clusterIP[family] === null) continue;
      const external = state.allowExternalIPs ? service.externalIPs[family].length : 0;
      servicePorts += service.ports.length;
      frontends += service.ports.length * (1 + external + service.loadBalancerIPs[family].length);
      for (const { nodePort } of service.ports) if (nodePort !== 0) frontends++;
      for (const slice of state.slices(key, family)) for (const port of slice.ports) endpoints += port.endpoints.length;
    }
  }
  return { services, servicePorts, frontends, endpoints };
}
