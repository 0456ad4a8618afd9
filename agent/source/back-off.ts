// Jittered exponential back-off between attempts to reach a server.

export interface BackOffOptions {
  readonly random: () => number;
  readonly minMs?: number;
  readonly maxMs?: number;
}

/** Waiting times that double from `minMs` to `maxMs`, each shortened by up to a half, but never below `minMs`. */
export class BackOff {
  readonly #random: () => number;
  readonly #minMs: number;
  readonly #maxMs: number;
  #failures = 0;

  constructor({ random, minMs = 200, maxMs = 30_000 }: BackOffOptions) {
    this.#random = random;
    this.#minMs = minMs;
    this.#maxMs = maxMs;
  }

  /** How long to wait after one more failure; at least `retryAfterMs` when the server asked for it. */
  next(retryAfterMs = 0): number {
    const full = Math.min(this.#maxMs, this.#minMs * 2 ** this.#failures);
    this.#failures++;
    return Math.max(this.#minMs, full * (1 - this.#random() / 2), retryAfterMs);
  }

  reset(): void {
    this.#failures = 0;
  }
}
