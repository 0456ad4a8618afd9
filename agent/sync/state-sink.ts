// Between the sources and the loop: objects go into the state, news of changes to the loop.
import { KINDS, type Kind, type Sink } from '../source/source.ts';
import type { State } from '../state/state.ts';

/** Feeds a state, and tells when all kinds are complete and when there is something to sync. */
export class StateSink implements Sink {
  readonly #state: State;
  readonly #onChange: () => void;
  readonly #missing = new Set<Kind>(KINDS);
  readonly allComplete: Promise<void>;
  #resolve: () => void = () => {};

  constructor(state: State, onChange: () => void) {
    this.#state = state;
    this.#onChange = onChange;
    this.allComplete = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  get missing(): readonly Kind[] {
    return [...this.#missing];
  }

  apply(kind: Kind, object: unknown): void {
    if (this.#state.apply(kind, object)) this.#onChange();
  }

  remove(kind: Kind, namespace: string, name: string): void {
    if (this.#state.remove(kind, namespace, name)) this.#onChange();
  }

  complete(kind: Kind): void {
    this.#missing.delete(kind);
    if (this.#missing.size === 0) this.#resolve();
  }
}
