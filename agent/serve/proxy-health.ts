// Whether this node's proxy is healthy and its Node eligible for load balancers (P-46…P-48). No I/O; clock injected.
import { FAMILIES, type Family } from '../../native/ip.ts';
import type { Node } from '../state/node.ts';
import { type Clock, systemClock } from '../sync/clock.ts';
import type { HealthProblem } from './health-problems.ts';

export interface ProxyHealthStatus {
  /** All families in time with their syncs. */
  readonly healthy: boolean;
  readonly nodeEligible: boolean;
  /** Newest successful sync of any family, milliseconds since the epoch; null before the first. */
  readonly lastUpdatedMs: number | null;
  /** Families that have updated at least once. */
  readonly families: Readonly<Partial<Record<Family, { readonly lastUpdatedMs: number; readonly healthy: boolean }>>>;
  /** Further reasons to answer 503, which kube-proxy does not know. */
  readonly problems: readonly HealthProblem[];
}

export interface ProxyHealthOptions {
  syncPeriodMs: number;
  clock?: Clock;
  /** Asked at each status. */
  problems?: () => readonly HealthProblem[];
}

/** What eligibility depends on. */
export type NodeFacts = Pick<Node, 'deleting' | 'taintKeys'>;

interface FamilyState {
  lastUpdatedMs: number | null;
  /** When the oldest request not yet served was made (monotonic). */
  pendingSinceMs: number | null;
}

const AUTOSCALER_TAINT = 'ToBeDeletedByClusterAutoscaler';

export class ProxyHealth {
  readonly #limitMs: number;
  readonly #clock: Clock;
  readonly #problems: () => readonly HealthProblem[];
  readonly #families: Record<Family, FamilyState> = {
    IPv4: { lastUpdatedMs: null, pendingSinceMs: null },
    IPv6: { lastUpdatedMs: null, pendingSinceMs: null },
  };
  #nodeEligible = false;

  constructor({ syncPeriodMs, clock = systemClock, problems = () => [] }: ProxyHealthOptions) {
    this.#limitMs = 2 * syncPeriodMs;
    this.#clock = clock;
    this.#problems = problems;
  }

  /** The sync loop of the family begins: counts as an update. */
  loopStarted(family: Family): void {
    this.syncSucceeded(family);
  }

  /** Cheap; call it for every event that needs a sync. */
  syncRequested(family: Family): void {
    this.#families[family].pendingSinceMs ??= this.#clock.monotonicMs();
  }

  /** All requests so far have been served. */
  syncSucceeded(family: Family): void {
    this.#families[family] = { lastUpdatedMs: this.#clock.wallMs(), pendingSinceMs: null };
  }

  /** The own Node as received. A Node that was deleted keeps its last state: do not call this then (P-47). */
  nodeUpdated(node: NodeFacts): void {
    this.#nodeEligible = isEligible(node);
  }

  status(): ProxyHealthStatus {
    const now = this.#clock.monotonicMs();
    const families: Partial<Record<Family, { lastUpdatedMs: number; healthy: boolean }>> = {};
    let lastUpdatedMs: number | null = null;
    let healthy = true;
    for (const family of FAMILIES) {
      const state = this.#families[family];
      if (state.lastUpdatedMs === null) continue;
      const inTime = state.pendingSinceMs === null || now - state.pendingSinceMs < this.#limitMs;
      families[family] = { lastUpdatedMs: state.lastUpdatedMs, healthy: inTime };
      lastUpdatedMs = Math.max(lastUpdatedMs ?? 0, state.lastUpdatedMs);
      healthy &&= inTime;
    }
    return { healthy, nodeEligible: this.#nodeEligible, lastUpdatedMs, families, problems: this.#problems() };
  }
}

/** P-47; null (unknown Node) is not eligible. */
export function isEligible(node: NodeFacts | null): boolean {
  return node !== null && !node.deleting && !node.taintKeys.includes(AUTOSCALER_TAINT);
}

export interface HealthAnswer {
  readonly status: 200 | 503;
  readonly body: Readonly<Record<string, unknown>>;
}

const ZERO_TIME = '0001-01-01T00:00:00Z';

/** Whether health check node ports may say that this node serves (P-61). */
export function servesWell(status: ProxyHealthStatus): boolean {
  return status.healthy && status.problems.length === 0;
}

/** What `/healthz` and `/livez` say (P-48). `wallMs` is the time of the answer. */
export function healthAnswer(path: '/healthz' | '/livez', status: ProxyHealthStatus, wallMs: number): HealthAnswer {
  const problems = status.problems.filter(({ restartHelps }) => path === '/healthz' || restartHelps);
  const ok = status.healthy && problems.length === 0 && (path === '/livez' || status.nodeEligible);
  const currentTime = rfc3339(wallMs);
  const lastUpdated = status.lastUpdatedMs === null ? ZERO_TIME : rfc3339(status.lastUpdatedMs);
  const families = Object.entries(status.families).map(([family, state]) => [
    family,
    { lastUpdated: rfc3339(state.lastUpdatedMs), healthy: state.healthy },
  ]);
  return {
    status: ok ? 200 : 503,
    body: {
      lastUpdated: ok ? currentTime : lastUpdated,
      currentTime,
      ...(path === '/healthz' && { nodeEligible: status.nodeEligible }),
      healthy: status.healthy,
      ...(families.length > 0 && { status: Object.fromEntries(families) }),
      ...(problems.length > 0 && { problems: problems.map(({ message }) => message) }),
    },
  };
}

function rfc3339(ms: number): string {
  return new Date(ms).toISOString();
}
