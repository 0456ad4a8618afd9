// Decides when a sync runs (P-40, P-41): at once when asked in idle state, never sooner than `minMs` after the previous
// one ended, unasked after `maxMs`, or after the retry interval when the previous one failed. Requests are level-triggered.
import { type Clock, systemClock } from './clock.ts';

export interface BoundedRunnerOptions {
  /** One sync; throwing or rejecting means it failed. */
  run: () => Promise<void> | void;
  /** Asked whenever it matters. */
  minMs: number | (() => number);
  retryMs: number;
  maxMs: number;
  /** Wait before the retry after the n-th failure in a row (n ≥ 1), at most `retryMs`; without it always `retryMs`. */
  backoffMs?: (failures: number) => number;
  /** Told of each failed sync. */
  onError?: (error: unknown, failures: number) => void;
  clock?: Clock;
}

/** First retry after `firstMs`, doubling with each failure; the runner caps it at its retry interval. */
export function doubling(firstMs: number): (failures: number) => number {
  return (failures) => firstMs * 2 ** (failures - 1);
}

export class BoundedRunner {
  readonly #options: BoundedRunnerOptions;
  readonly #clock: Clock;
  #running: Promise<void> | null = null;
  #started = false;
  #requested = false;
  #stopped = false;
  #failures = 0;
  /** End of the previous sync on the monotonic clock; null before the first. */
  #endedMs: number | null = null;
  #cancelTimer: (() => void) | null = null;

  constructor(options: BoundedRunnerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Begins; `maxMs` counts from now. A request made before is served now. */
  start(): void {
    if (this.#started || this.#stopped) return;
    this.#started = true;
    if (this.#requested) this.#schedule();
    else this.#arm(this.#options.maxMs);
  }

  /** Asks for a sync that begins after this call. Cheap; call it per event. */
  request(): void {
    if (this.#requested || this.#stopped) return;
    this.#requested = true;
    if (this.#started && this.#running === null) this.#schedule();
  }

  /** Sync failures since the last success. */
  get failures(): number {
    return this.#failures;
  }

  get running(): boolean {
    return this.#running !== null;
  }

  /** No sync begins from now on; resolves when a running one has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    await this.#running;
  }

  #schedule(): void {
    const sinceEnd = this.#endedMs === null ? Number.POSITIVE_INFINITY : this.#clock.monotonicMs() - this.#endedMs;
    const { maxMs } = this.#options;
    const minMs = typeof this.#options.minMs === 'number' ? this.#options.minMs : this.#options.minMs();
    const due = this.#requested ? minMs : Math.max(minMs, Math.min(maxMs, this.#retryMs()));
    const wait = due - sinceEnd;
    // Even an immediate sync begins after the caller's turn, so that it serves all requests of that turn.
    if (wait <= 0) queueMicrotask(() => this.#begin());
    else this.#arm(wait);
  }

  #retryMs(): number {
    if (this.#failures === 0) return Number.POSITIVE_INFINITY;
    const { retryMs, backoffMs } = this.#options;
    return Math.min(retryMs, backoffMs?.(this.#failures) ?? retryMs);
  }

  #arm(ms: number): void {
    this.#cancelTimer?.();
    this.#cancelTimer = this.#clock.after(ms, () => {
      this.#cancelTimer = null;
      this.#begin();
    });
  }

  #begin(): void {
    if (this.#stopped || this.#running !== null) return;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#requested = false;
    const sync = this.#sync().catch(() => {}); // only `onError` can throw, and that must not end the loop either
    this.#running = sync.finally(() => {
      this.#endedMs = this.#clock.monotonicMs();
      this.#running = null;
      if (!this.#stopped) this.#schedule();
    });
  }

  async #sync(): Promise<void> {
    try {
      await this.#options.run();
      this.#failures = 0;
    } catch (error) {
      this.#failures++;
      this.#options.onError?.(error, this.#failures);
    }
  }
}
