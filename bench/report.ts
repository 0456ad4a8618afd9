// The results as a table for people.

/** Of one program at one scale. Milliseconds unless named otherwise; null where a program does not tell. */
export interface Run {
  readonly program: string;
  readonly mode: string;
  readonly services: number;
  readonly endpointsPerService: number;
  readonly coldSyncMs: number | null;
  readonly coldStartMs: number;
  readonly syncedMs: number;
  readonly warmRestartObjects: number | null;
  /** Event received → kernel acknowledged. */
  readonly changeP50Ms: number | null;
  readonly changeP99Ms: number | null;
  readonly elementsPerChange: number | null;
  /** Object changed in the API server → a connection lands on the new endpoint. */
  readonly landedP50Ms: number;
  readonly landedP99Ms: number;
  readonly rssMiB: number;
  readonly connectRatio: number;
  /** Of the connections through the Service while the rate was measured; nothing changed meanwhile. */
  readonly connectsFailed: number;
}

const number = (value: number | null | undefined, digits = 0): string =>
  value === null || value === undefined ? '–' : value.toFixed(digits);

const COLUMNS: readonly (readonly [string, (run: Run) => string])[] = [
  ['program', (r) => r.program],
  ['scale', (r) => `${r.services}x${r.endpointsPerService}`],
  ['cold sync ms', (r) => number(r.coldSyncMs)],
  ['cold start ms', (r) => number(r.coldStartMs)],
  ['synced ms', (r) => number(r.syncedMs)],
  ['restart objects', (r) => number(r.warmRestartObjects)],
  ['change p50 ms', (r) => number(r.changeP50Ms, 2)],
  ['p99 ms', (r) => number(r.changeP99Ms, 2)],
  ['elements/change', (r) => number(r.elementsPerChange, 1)],
  ['landed p50 ms', (r) => number(r.landedP50Ms, 1)],
  ['p99 ms', (r) => number(r.landedP99Ms, 1)],
  ['RSS MiB', (r) => number(r.rssMiB)],
  ['connect ratio', (r) => number(r.connectRatio, 3)],
  ['failed', (r) => number(r.connectsFailed)],
];

/** Prints to stdout. */
export function printTable(machine: string, runs: readonly Run[]): void {
  const rows = [COLUMNS.map(([title]) => title), ...runs.map((run) => COLUMNS.map(([, cell]) => cell(run)))];
  const widths = COLUMNS.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  const text = rows.map((row) =>
    row.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  '),
  );
  process.stdout.write(`${machine}\n\n${text.join('\n')}\n`);
}
