// Metrics whose values are kept elsewhere and read when somebody scrapes.
import { Counter, Gauge, type Registry } from 'prom-client';

/** One series: its labels and value. */
export type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

export interface ComputedOptions {
  readonly registry: Registry;
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
  /** The value, or one per combination of labels; null: there is none now. */
  readonly read: () => number | null | readonly Sample[];
}

function samples(read: ComputedOptions['read']): readonly Sample[] {
  const value = read();
  if (value === null) return [];
  return typeof value === 'number' ? [[{}, value]] : value;
}

export function computedGauge({ registry, name, help, labels = [], read }: ComputedOptions): void {
  new Gauge({
    name,
    help,
    labelNames: labels,
    registers: [registry],
    collect() {
      this.reset();
      if (labels.length === 0) this.remove();
      for (const [of, value] of samples(read)) this.set(of, value);
    },
  });
}

/** `read` gives totals since the start. */
export function computedCounter({ registry, name, help, labels = [], read }: ComputedOptions): void {
  new Counter({
    name,
    help,
    labelNames: labels,
    registers: [registry],
    collect() {
      this.reset();
      if (labels.length === 0) this.remove();
      for (const [of, value] of samples(read)) this.inc(of, value);
    },
  });
}
