// Between the sources and the loop: objects go into the state, news of changes to the loop.
import { KINDS, type Kind, type Sink } from '../source/source.ts';
import type { State } from '../state/state.ts';

export interface StateSinkEvents {
  /** There is something to sync. */
  readonly onChange: () => void;
  /** The own Node was deleted, which changes nothing. */
  readonly onNodeRemoved?: () => void;
}

/** Feeds a state, and tells when kinds are complete and when there is something to sync. */
export class StateSink implements Sink {
  readonly #state: State;
  readonly #events: StateSinkEvents;
  readonly #complete = new Map<Kind, { readonly done: Promise<void>; readonly resolve: () => void }>();
  readonly allComplete: Promise<unknown>;

  constructor(state: State, events: StateSinkEvents) {
    this.#state = state;
    this.#events = events;
    for (const kind of KINDS) {
      const { promise: done, resolve } = Promise.withResolvers<void>();
      this.#complete.set(kind, { done, resolve });
    }
    this.allComplete = Promise.all(KINDS.map((kind) => this.completed(kind)));
  }

  /** Resolves once all objects of the kind have been delivered. */
  completed(kind: Kind): Promise<void> {
    return this.#complete.get(kind)!.done;
  }

  apply(kind: Kind, object: unknown): void {
    if (this.#state.apply(kind, object)) this.#events.onChange();
  }

  remove(kind: Kind, namespace: string, name: string): void {
    if (this.#state.remove(kind, namespace, name)) this.#events.onChange();
    if (kind === 'Node' && name === this.#state.nodeName) this.#events.onNodeRemoved?.();
  }

  complete(kind: Kind): void {
    this.#complete.get(kind)!.resolve();
  }
}
