// Explanations of the Services in a state: of a running agent, or of one filled from manifests.
import type { RefusedService } from '../../backends/backend.ts';
import type { NodeSettings } from '../../backends/service-plan.ts';
import { FAMILIES, type Family } from '../../native/ip.ts';
import type { NodeAddresses } from '../plan/node-addresses.ts';
import { objectLabel, type Problem } from '../state/objects.ts';
import type { State } from '../state/state.ts';
import { explain } from './explain-service.ts';
import type { ServiceExplanation } from './explanation.ts';
import { similarServices } from './similar-names.ts';

export interface ExplainerOptions {
  readonly state: State;
  readonly families: readonly Family[];
  readonly addresses: NodeAddresses;
  readonly settings: NodeSettings;
  readonly refused: readonly RefusedService[];
  /** Of ipvs mode; null in the other modes. */
  readonly scheduler: string | null;
}

/** Why there is no explanation of a Service. */
export interface UnknownService {
  readonly error: string;
  readonly similar: readonly string[];
  /** What makes the Service unusable as a whole, if it is that. */
  readonly problems: readonly Problem[];
}

/** Explains the state of the moment when it was made; do not keep it. */
export class Explainer {
  readonly #options: ExplainerOptions;
  readonly #problems = new Map<string, Problem[]>();

  constructor(options: ExplainerOptions) {
    this.#options = options;
    for (const problem of options.state.problems()) {
      const list = this.#problems.get(problem.object);
      if (list) list.push(problem);
      else this.#problems.set(problem.object, [problem]);
    }
  }

  /** `service`: `namespace/name`; null when it is unknown. */
  explain(service: string): ServiceExplanation | null {
    const { state, families, addresses, settings, scheduler, refused } = this.#options;
    const inputs = families.map((family) => ({ ...state.planInput(service, family), nodeIP: addresses[family] }));
    return explain({
      inputs,
      settings,
      scheduler,
      problems: this.#problemsOf(service),
      refused: refused.filter((entry) => entry.service === service).map(({ family, message }) => ({ family, message })),
    });
  }

  unknown(service: string): UnknownService {
    return {
      error: `this node handles no Service ${service}`,
      similar: similarServices(service, this.#options.state.serviceKeys()),
      problems: this.#problemsOf(service),
    };
  }

  /** Explanations of all Services, sorted, as the text of a JSON list in parts. */
  *allAsJson(): Generator<string> {
    let separator = '[\n';
    for (const service of [...this.#options.state.serviceKeys()].sort()) {
      const explanation = this.explain(service);
      if (explanation === null) continue; // gone since the first part
      yield separator + JSON.stringify(explanation);
      separator = ',\n';
    }
    yield separator === '[\n' ? '[]\n' : '\n]\n';
  }

  #problemsOf(service: string): Problem[] {
    const [namespace = '', name = ''] = service.split('/');
    const slices = FAMILIES.flatMap((family) => this.#options.state.slices(service, family));
    const labels = [
      objectLabel('Service', namespace, name),
      ...slices.map((slice) => objectLabel('EndpointSlice', slice.namespace, slice.name)),
    ];
    return labels.flatMap((label) => this.#problems.get(label) ?? []);
  }
}
