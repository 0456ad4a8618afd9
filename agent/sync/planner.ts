// Plans of Services from the state of objects: of those that changed, or of all at start.

import type { PlanChange, ServicePlan } from '../../backends/service-plan.ts';
import { Breather } from '../../native/breather.ts';
import type { Family } from '../../native/ip.ts';
import type { NodeAddresses } from '../plan/node-addresses.ts';
import { planService } from '../plan/plan-service.ts';
import type { State } from '../state/state.ts';

export interface PlannerOptions {
  readonly state: State;
  readonly families: readonly Family[];
  /** The node's own IPs, as of the start (P-13). */
  readonly addresses: NodeAddresses;
}

export class Planner {
  readonly #options: PlannerOptions;

  constructor(options: PlannerOptions) {
    this.#options = options;
  }

  plan(service: string, family: Family): ServicePlan | null {
    const { state, addresses } = this.#options;
    return planService({ ...state.planInput(service, family), nodeIP: addresses[family] });
  }

  /** Changes for these Services; gives the event loop a turn now and then. */
  async changes(services: ReadonlyMap<string, readonly Family[]>): Promise<PlanChange[]> {
    const breather = new Breather();
    const out: PlanChange[] = [];
    for (const [service, families] of services) {
      for (const family of families) {
        if (this.#options.families.includes(family)) out.push({ service, family, plan: this.plan(service, family) });
      }
      if (breather.due) await breather.rest();
    }
    return out;
  }

  /** Plans of all Services, the most urgent first. */
  async all(): Promise<ServicePlan[]> {
    const { state, families } = this.#options;
    const keys = [...state.serviceKeys()];
    const urgent = keys.filter((key) => isUrgent(state, key));
    const rest = keys.filter((key) => !isUrgent(state, key));
    const every = new Map([...urgent, ...rest].map((key) => [key, families]));
    return (await this.changes(every)).flatMap(({ plan }) => plan ?? []);
  }
}

/** The API server and cluster DNS: nothing else on the node works before they do. */
function isUrgent(state: State, key: string): boolean {
  if (key === 'default/kubernetes') return true;
  return key.startsWith('kube-system/') && state.service(key)?.ports.some((port) => port.port === 53) === true;
}
