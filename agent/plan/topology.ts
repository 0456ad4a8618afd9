// Which endpoints of a service port traffic may reach from this node: conditions, topology hints, policies (E-28…E-42).
import type { Endpoint } from '../../backends/service-plan.ts';
import type { ServicePort } from './service-ports.ts';

/** How Ready endpoints of the cluster set were chosen (E-35). */
export type TopologyMode = 'sameNode' | 'sameZone' | 'none';

/** The sets are sorted like the input. */
export interface Categorized {
  /** E-28. */
  readonly cluster: readonly Endpoint[];
  /** E-29. */
  readonly local: readonly Endpoint[];
  /** E-31. */
  readonly hasEndpoints: boolean;
  readonly mode: TopologyMode;
}

export interface CategorizeOptions {
  /** All endpoints of the service port, sorted by key. */
  endpoints: readonly Endpoint[];
  port: Pick<ServicePort, 'usesCluster' | 'usesLocal'>;
  /** This node's name, normalised; '' when unknown. */
  nodeName: string;
  /** This node's zone; '' when unknown (E-38). */
  zone: string;
}

const isServingTerminating = (endpoint: Endpoint) => !endpoint.ready && endpoint.serving && endpoint.terminating;

export function categorize({ endpoints, port, nodeName, zone }: CategorizeOptions): Categorized {
  const ready = filter(endpoints, (endpoint) => endpoint.ready);
  const mode = topologyMode(ready, nodeName, zone);
  let cluster: readonly Endpoint[] = [];
  if (port.usesCluster) {
    if (mode === 'none') cluster = ready;
    else
      cluster = ready.filter((e) =>
        mode === 'sameNode' ? e.nodeHints!.includes(nodeName) : e.zoneHints!.includes(zone),
      );
    if (cluster.length === 0) cluster = filter(endpoints, isServingTerminating);
  }
  let local: readonly Endpoint[] = [];
  if (port.usesLocal) {
    local = filter(ready, (endpoint) => endpoint.local);
    if (local.length === 0) local = filter(endpoints, (endpoint) => endpoint.local && isServingTerminating(endpoint));
  }
  const anyUsable = ready.length > 0 || endpoints.some(isServingTerminating);
  return { cluster, local, hasEndpoints: cluster.length > 0 || (port.usesLocal && anyUsable), mode };
}

/** Like Array.filter, but gives the list itself back when all of it passes: plans then share it. */
function filter(endpoints: readonly Endpoint[], keep: (endpoint: Endpoint) => boolean): readonly Endpoint[] {
  return endpoints.every(keep) ? endpoints : endpoints.filter(keep);
}

function topologyMode(ready: readonly Endpoint[], nodeName: string, zone: string): TopologyMode {
  if (chosen(ready, 'nodeHints', nodeName)) return 'sameNode';
  return chosen(ready, 'zoneHints', zone) ? 'sameZone' : 'none';
}

/** Every endpoint has hints of the kind, and at least one is for `name`. */
function chosen(ready: readonly Endpoint[], kind: 'nodeHints' | 'zoneHints', name: string): boolean {
  let found = false;
  for (const endpoint of ready) {
    const hints = endpoint[kind];
    if (hints === null) return false;
    found ||= hints.includes(name);
  }
  return found;
}

/** Union of the cluster and the local set, sorted by key (E-30). */
export function reachable({ cluster, local }: Pick<Categorized, 'cluster' | 'local'>): readonly Endpoint[] {
  if (local.length === 0 || local === cluster) return cluster;
  if (cluster.length === 0) return local;
  const byKey = new Map([...cluster, ...local].map((endpoint) => [endpoint.key, endpoint]));
  return [...byKey.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}

/**
 * Why no traffic of a kind reaches an endpoint from this node:
 * `notReady` neither ready nor draining; `terminating` no longer serving, or draining while others are used;
 * `otherNode`, `otherZone` hinted for other nodes or zones; `notLocal` the policy wants endpoints of this node;
 * `unused` no traffic of this kind exists or may use the set.
 */
export type LeftOut = 'notReady' | 'terminating' | 'otherNode' | 'otherZone' | 'notLocal' | 'unused';

export interface ExplainedEndpoint<E extends Endpoint = Endpoint> {
  readonly endpoint: E;
  /** null: it is in the cluster set. */
  readonly cluster: LeftOut | null;
  /** null: it is in the local set. */
  readonly local: LeftOut | null;
  /** null: it is in one of them; else the reason that matters. */
  readonly leftOut: LeftOut | null;
}

/** For each endpoint whether it is in the sets, and if not, why. */
export function explainEndpoints<E extends Endpoint>(options: {
  endpoints: readonly E[];
  port: CategorizeOptions['port'];
  sets: Categorized;
}): ExplainedEndpoint<E>[] {
  const { port, sets } = options;
  const inCluster = new Set(sets.cluster);
  const inLocal = new Set(sets.local);
  const unfit = (endpoint: Endpoint): LeftOut | null => {
    if (endpoint.ready) return null;
    return endpoint.terminating ? 'terminating' : 'notReady';
  };
  return options.endpoints.map((endpoint) => {
    let cluster: LeftOut | null = null;
    if (!inCluster.has(endpoint)) {
      if (!port.usesCluster) cluster = 'unused';
      else cluster = unfit(endpoint) ?? (sets.mode === 'sameNode' ? 'otherNode' : 'otherZone');
    }
    let local: LeftOut | null = null;
    if (!inLocal.has(endpoint)) {
      if (!port.usesLocal) local = 'unused';
      else local = unfit(endpoint) ?? 'notLocal'; // a local Ready one is always in
    }
    const leftOut = cluster === null || local === null ? null : cluster === 'unused' ? local : cluster;
    return { endpoint, cluster, local, leftOut };
  });
}
