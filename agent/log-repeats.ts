// Keeps a log readable when something fails again and again: the same line is written once a minute at most, and then says
// how often it was left out. No I/O; clock injected.

const INTERVAL_MS = 60_000;
/** Different lines remembered. With more within a minute the log is busy with news, not with repetitions. */
const MOST_LINES = 1000;

interface Seen {
  atMs: number;
  leftOut: number;
}

export class LogRepeats {
  readonly #now: () => number;
  readonly #lines = new Map<string, Seen>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** How many like it were left out since it was last written; null: leave this one out too. */
  next(line: string): number | null {
    const atMs = this.#now();
    const seen = this.#lines.get(line);
    const age = seen === undefined ? 0 : atMs - seen.atMs;
    // The wall clock may be set back.
    if (seen !== undefined && age >= 0 && age < INTERVAL_MS) {
      seen.leftOut++;
      return null;
    }
    if (this.#lines.size >= MOST_LINES) this.#forget(atMs);
    if (seen !== undefined || this.#lines.size < MOST_LINES) this.#lines.set(line, { atMs, leftOut: 0 });
    return seen?.leftOut ?? 0;
  }

  #forget(nowMs: number): void {
    for (const [line, { atMs }] of this.#lines) if (Math.abs(nowMs - atMs) >= INTERVAL_MS) this.#lines.delete(line);
  }
}
