// A clock that stands still until a test advances it; both of its times are the same.
import type { Clock } from '../../agent/sync/clock.ts';

export class FakeClock implements Clock {
  #nowMs: number;
  #timers: { atMs: number; fn: () => void }[] = [];

  constructor(startMs = 0) {
    this.#nowMs = startMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  after(ms: number, fn: () => void): () => void {
    const timer = { atMs: this.#nowMs + ms, fn };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Resolves when `ms` have passed on this clock. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(ms, resolve);
    });
  }

  get pendingTimers(): number {
    return this.#timers.length;
  }

  /** Moves to `ms` from now, running what is due on the way in order, each after all that follows from the one before. */
  async advance(ms: number): Promise<void> {
    await this.advanceTo(this.#nowMs + ms);
  }

  async advanceTo(targetMs: number): Promise<void> {
    await settled();
    for (;;) {
      const next = this.#timers.reduce<{ atMs: number; fn: () => void } | null>(
        (first, timer) => (first === null || timer.atMs < first.atMs ? timer : first),
        null,
      );
      if (next === null || next.atMs > targetMs) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.fn();
      await settled();
    }
    this.#nowMs = Math.max(this.#nowMs, targetMs);
  }
}

/** All promise reactions that can run have run. */
function settled(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
