// What the control socket answers: `/status`, `/dump` and `/explain`.
import type { Backend } from '../../backends/backend.ts';
import { Explainer, type ExplainerOptions } from '../explain/explainer.ts';
import type { Status } from '../status.ts';
import { type ControlAnswer, type ControlRoute, jsonAnswer } from './control-socket.ts';

export interface ControlRoutesOptions {
  readonly status: () => Status;
  readonly backend: Pick<Backend, 'dumpParts'>;
  /** null while no rules have been made. */
  readonly explained: () => ExplainerOptions | null;
}

/**
 * `/status`: a Status. `/explain`: a list of ServiceExplanation. `/dump`: the rules as text. The latter two with
 * `?service=namespace/name` for one Service only: 404 with an UnknownService when there is none. 503 while starting.
 */
export function controlRoutes({ status, backend, explained }: ControlRoutesOptions): Record<string, ControlRoute> {
  const whenStarted =
    (answer: (explainer: Explainer, service: string | null) => ControlAnswer): ControlRoute =>
    (query) => {
      const options = explained();
      if (options === null) {
        const { reasons } = status();
        return jsonAnswer({ error: `the agent has no rules yet: ${reasons.join('; ') || 'it is starting'}` }, 503);
      }
      const explainer = new Explainer(options);
      const service = query.get('service');
      const unknown = service !== null && options.state.service(service) === null;
      return unknown ? jsonAnswer(explainer.unknown(service), 404) : answer(explainer, service);
    };
  return {
    '/status': () => jsonAnswer(status()),
    '/dump': whenStarted((_, service) => ({
      status: 200,
      type: 'text/plain',
      body: backend.dumpParts(service ?? undefined),
    })),
    '/explain': whenStarted((explainer, service) =>
      service === null
        ? { status: 200, type: 'application/json', body: explainer.allAsJson() }
        : jsonAnswer([explainer.explain(service)]),
    ),
  };
}
