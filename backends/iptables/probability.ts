// Probabilities of the random choice among endpoints: the text kube-proxy writes and the number of 2³¹ the kernel keeps.

/** What the kernel compares its random numbers with; probability 1. */
const UNIT = 2 ** 31;

/** 1/n with 10 decimals (I-22). */
export function probabilityText(n: number): string {
  return fixed(1 / n, 10);
}

const thresholds: number[] = [];

/** The kernel's number for the text of 1/n. */
export function probabilityThreshold(n: number): number {
  return (thresholds[n] ??= thresholdOf(probabilityText(n)));
}

/** The kernel's number for a probability in decimal text, as the tools make it. */
export function thresholdOf(text: string): number {
  return Math.round(Number(text) * UNIT);
}

const texts = { 10: new Map<number, string>(), 11: new Map<number, string>() };

/** Decimal text for the kernel's number: with 11 decimals as iptables-save prints it; 10 are enough to read it back. */
export function thresholdText(threshold: number, decimals: 10 | 11): string {
  const known = texts[decimals];
  let text = known.get(threshold);
  // There are as many different ones as there are sizes of Services.
  if (text === undefined) known.set(threshold, (text = fixed(threshold / UNIT, decimals)));
  return text;
}

/** As printf: what lies exactly in the middle goes to the even digit, which toFixed does not do. */
function fixed(value: number, decimals: number): string {
  const text = value.toFixed(decimals);
  const exact = value.toFixed(100);
  const rest = exact.slice(text.length);
  const down = exact.slice(0, text.length);
  return /^50*$/.test(rest) && Number(down.at(-1)) % 2 === 0 ? down : text;
}
