// Go duration strings (`30s`, `1h0m0s`) to and from milliseconds (P-28). Fractions of a millisecond are kept.

const NANOSECONDS: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3, // micro sign
  μs: 1e3, // Greek mu
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};
const MAX_NANOSECONDS = 2 ** 63;

/** Milliseconds, or null when `text` is no Go duration or exceeds its range (about 292 years). */
export function parseDuration(text: string): number | null {
  const sign = text.startsWith('-') ? -1 : 1;
  const body = text.replace(/^[-+]/, '');
  if (body === '0') return 0;
  const part = /(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/y;
  let total = 0;
  while (part.lastIndex < body.length) {
    const match = part.exec(body);
    if (match === null) return null;
    total += Number(match[1]) * NANOSECONDS[match[2]!]!;
  }
  if (body === '' || total >= MAX_NANOSECONDS) return null;
  return total === 0 ? 0 : (sign * total) / 1e6;
}

/** As Go prints it: `24h0m0s`, `1.5s`, `100ms`, `0s`. */
export function formatDuration(ms: number): string {
  const total = Math.round(Math.abs(ms) * 1e6);
  if (total === 0) return '0s';
  const sign = ms < 0 ? '-' : '';
  for (const [unit, size, below] of [
    ['ns', 1, 1e3],
    ['µs', 1e3, 1e6],
    ['ms', 1e6, 1e9],
  ] as const) {
    if (total < below) return `${sign}${total / size}${unit}`;
  }
  const hours = Math.floor(total / 3600e9);
  const minutes = Math.floor((total % 3600e9) / 60e9);
  const seconds = (total % 60e9) / 1e9;
  if (hours > 0) return `${sign}${hours}h${minutes}m${seconds}s`;
  return minutes > 0 ? `${sign}${minutes}m${seconds}s` : `${sign}${seconds}s`;
}
