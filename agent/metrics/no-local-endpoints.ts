// Counts what a Local traffic policy leaves without endpoints on this node (S-36), from the plans as they are made.
import type { PlanChange, ServicePlan, ServicePortPlan } from '../../backends/service-plan.ts';
import { FAMILIES, type Family } from '../../native/ip.ts';

export type TrafficPolicy = 'internal' | 'external';
export const TRAFFIC_POLICIES: readonly TrafficPolicy[] = ['internal', 'external'];

type Counts = Readonly<Record<TrafficPolicy, number>>;

/** `ports`: counts service ports, whose traffic is dropped (S-31, S-32); `services`: Services, whose traffic goes elsewhere (S-90, S-91). */
export type Unit = 'ports' | 'services';

export class NoLocalEndpoints {
  readonly #unit: Unit;
  /** Only Services concerned, by name. */
  readonly #counts: Readonly<Record<Family, Map<string, Counts>>> = { IPv4: new Map(), IPv6: new Map() };

  constructor(unit: Unit) {
    this.#unit = unit;
  }

  /** Takes plans in; `all`: there are no others. */
  planned(changes: readonly PlanChange[], all: boolean): void {
    if (all) for (const family of FAMILIES) this.#counts[family].clear();
    for (const { service, family, plan } of changes) {
      const counts = plan === null ? null : this.#count(plan);
      if (counts === null) this.#counts[family].delete(service);
      else this.#counts[family].set(service, counts);
    }
  }

  total(family: Family, policy: TrafficPolicy): number {
    let sum = 0;
    for (const counts of this.#counts[family].values()) sum += counts[policy];
    return sum;
  }

  #count({ ports }: ServicePlan): Counts | null {
    const found = { internal: 0, external: 0 };
    for (const port of ports) {
      for (const policy of TRAFFIC_POLICIES) if (this.#lacks(port, policy)) found[policy]++;
    }
    if (found.internal + found.external === 0) return null;
    if (this.#unit === 'ports') return found;
    return { internal: Math.min(1, found.internal), external: Math.min(1, found.external) };
  }

  #lacks(port: ServicePortPlan, policy: TrafficPolicy): boolean {
    const applies = policy === 'internal' ? port.internalLocal : port.externalLocal;
    if (!applies || port.local.length > 0) return false;
    return this.#unit === 'ports' ? port.hasEndpoints : port.cluster.length > 0;
  }
}
