// A steady stream of connection attempts from one process, with counters and, if wanted, a row for each attempt.
import { attempt } from './attempt.ts';
import {
  type Attempt,
  attemptText,
  type LoadCounters,
  type LoadDetails,
  type LoadOptions,
  type LoadResult,
  monotonicMs,
} from './host-calls.ts';
import { scaled } from './time-scale.ts';

const TICK_MS = scaled(2);

export class Load {
  readonly #options: LoadOptions;
  readonly #startedAt = monotonicMs();
  readonly #timer: NodeJS.Timeout | null;
  readonly #results = new Map<string, { index: number; count: number }>();
  readonly #rows: { at: number[]; took: number[]; target: number[]; result: number[] } | null;
  #running = true;
  #started = 0;
  #ended = 0;
  #answered = 0;
  #slowestMs = 0;
  #endedAt = 0;
  #idle: (() => void) | null = null;

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#rows = options.keepDetails ? { at: [], took: [], target: [], result: [] } : null;
    this.#timer = options.perSecond === undefined ? null : setInterval(() => this.#fill(), TICK_MS);
    this.#fill();
  }

  #fill(): void {
    const { width, perSecond, targets } = this.#options;
    const due = perSecond === undefined ? Infinity : ((monotonicMs() - this.#startedAt) * perSecond) / 1000;
    while (this.#running && this.#started - this.#ended < width && this.#started < due) {
      const index = this.#started++ % targets.length;
      const at = monotonicMs();
      attempt(targets[index]!, (result) => this.#record(index, at, result));
    }
  }

  #record(target: number, at: number, result: Attempt): void {
    this.#ended++;
    if (result.outcome === 'answered') this.#answered++;
    this.#slowestMs = Math.max(this.#slowestMs, result.tookMs);
    const text = attemptText(result);
    let entry = this.#results.get(text);
    if (!entry) this.#results.set(text, (entry = { index: this.#results.size, count: 0 }));
    entry.count++;
    if (this.#rows) {
      this.#rows.at.push(at);
      this.#rows.took.push(result.tookMs);
      this.#rows.target.push(target);
      this.#rows.result.push(entry.index);
    }
    if (this.#running) this.#fill();
    else if (this.#ended === this.#started) this.#idle?.();
  }

  counters(): LoadCounters {
    return {
      startedAt: this.#startedAt,
      endedAt: this.#endedAt || monotonicMs(),
      attempts: this.#ended,
      answered: this.#answered,
      results: Object.fromEntries([...this.#results].map(([text, { count }]) => [text, count])),
      slowestMs: this.#slowestMs,
    };
  }

  #details(): LoadDetails | null {
    const rows = this.#rows;
    return (
      rows && {
        startedAt: Float64Array.from(rows.at),
        tookMs: Float32Array.from(rows.took),
        target: Uint16Array.from(rows.target),
        result: Uint16Array.from(rows.result),
        texts: [...this.#results.keys()],
      }
    );
  }

  async stop(): Promise<LoadResult> {
    this.#running = false;
    if (this.#timer) clearInterval(this.#timer);
    if (this.#ended < this.#started) await new Promise<void>((resolve) => (this.#idle = resolve));
    this.#endedAt = monotonicMs();
    return { ...this.counters(), details: this.#details() };
  }
}
