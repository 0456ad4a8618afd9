// Which index an endpoint has. The order has no meaning; keeping it stable makes changes small.

/**
 * The next assignment: index → endpoint, changed in as few places as possible. Endpoints that leave make holes, new
 * ones fill them, and what is left over is moved from or appended to the end, so that the indices stay 0…n-1.
 * `wanted` must not hold duplicates.
 */
export function assignSlots(previous: readonly string[], wanted: readonly string[]): readonly string[] {
  const coming = new Set(wanted);
  const slots: (string | null)[] = [];
  for (const endpoint of previous) slots.push(coming.delete(endpoint) ? endpoint : null);
  if (coming.size === 0 && slots.length === wanted.length) return previous;
  const fresh = [...coming];
  let next = 0;
  for (let i = 0; i < slots.length && next < fresh.length; i++) {
    if (slots[i] === null) slots[i] = fresh[next++]!;
  }
  while (next < fresh.length) slots.push(fresh[next++]!);
  for (let i = 0; i < slots.length; i++) {
    while (slots.length > i && slots.at(-1) === null) slots.pop();
    if (i < slots.length && slots[i] === null) slots[i] = slots.pop()!;
  }
  return slots as string[];
}

/** Hands out numbers from 1 to `max`, a freed one as late as possible, so that stale memories of it have expired. */
export class NumberPool {
  readonly #max: number;
  readonly #used = new Set<number>();
  #last = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** The next free number, or null when all are taken. */
  take(): number | null {
    if (this.#used.size >= this.#max) return null;
    do this.#last = (this.#last % this.#max) + 1;
    while (this.#used.has(this.#last));
    this.#used.add(this.#last);
    return this.#last;
  }

  /** Marks a number that is in use already. @returns false when somebody else has it. */
  claim(number: number): boolean {
    if (number < 1 || number > this.#max || this.#used.has(number)) return false;
    this.#used.add(number);
    return true;
  }

  /** New numbers are looked for behind this one. */
  skip(number: number): void {
    this.#last = Math.max(this.#last, Math.min(number, this.#max));
  }

  release(number: number): void {
    this.#used.delete(number);
  }
}
