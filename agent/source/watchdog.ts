// Ends a request on which nothing arrives for too long.
import type { Timers } from './timers.ts';

/** Aborts `signal` once `heard` was not called for the current limit; also when `outer` is aborted. */
export class Watchdog {
  readonly #timers: Timers;
  readonly #abort = new AbortController();
  readonly signal: AbortSignal;
  #limitMs: number;
  #reason: () => Error;
  #lastHeard: number;
  #cancel: () => void = () => {};

  constructor(timers: Timers, outer: AbortSignal, limitMs: number, reason: () => Error) {
    this.#timers = timers;
    this.#limitMs = limitMs;
    this.#reason = reason;
    this.#lastHeard = timers.monotonicMs();
    this.signal = AbortSignal.any([outer, this.#abort.signal]);
    this.#arm();
  }

  /** Something arrived. Cheap: the timer is not touched. */
  heard(): void {
    this.#lastHeard = this.#timers.monotonicMs();
  }

  /** From now on, `limitMs` of silence end the request with this reason. */
  limit(limitMs: number, reason: () => Error): void {
    this.#limitMs = limitMs;
    this.#reason = reason;
    this.heard();
    this.#cancel();
    this.#arm();
  }

  stop(): void {
    this.#cancel();
  }

  #arm(): void {
    const left = this.#lastHeard + this.#limitMs - this.#timers.monotonicMs();
    this.#cancel = this.#timers.after(left, () => {
      if (this.#timers.monotonicMs() - this.#lastHeard >= this.#limitMs) this.#abort.abort(this.#reason());
      else this.#arm();
    });
  }
}
