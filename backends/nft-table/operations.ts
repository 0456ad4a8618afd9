// Elements of a table's sets, and the operations that lead from some to others.
import type { Element } from '../../native/nftables/batch.ts';

/** Elements by set and key. */
export type ElementsOf<S extends string> = Map<S, Map<string, Element>>;

export interface OperationsOf<S extends string> {
  readonly deletions: Map<S, Element[]>;
  readonly additions: Map<S, Element[]>;
}

/** How many Services use an element of a shared set. */
export class ReferenceCounts<S extends string> {
  readonly #counts = new Map<string, number>();

  get(set: S, key: string): number {
    return this.#counts.get(set + key) ?? 0;
  }

  change(set: S, key: string, delta: number): void {
    const count = this.get(set, key) + delta;
    if (count > 0) this.#counts.set(set + key, count);
    else this.#counts.delete(set + key);
  }

  clear(): void {
    this.#counts.clear();
  }
}

export function sameElement(a: Element, b: Element): boolean {
  return a.data === b.data && a.keyEnd === b.keyEnd && a.comment === b.comment;
}

export function emptyOperations<S extends string>(): OperationsOf<S> {
  return { deletions: new Map(), additions: new Map() };
}

export function push<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}

/** Adds elements whose keys are not there yet. */
export function addMissing<S extends string>(into: ElementsOf<S>, elements: ElementsOf<S>): void {
  for (const [set, list] of elements) {
    let known = into.get(set);
    if (!known) into.set(set, (known = new Map()));
    for (const [key, element] of list) if (!known.has(key)) known.set(key, element);
  }
}

/** The difference between what the kernel holds and what it shall hold, for one set. */
export function diffSet(
  have: ReadonlyMap<string, Element>,
  want: ReadonlyMap<string, Element>,
): { deletions: Element[]; additions: Element[] } {
  if (have.size === 0) return { deletions: [], additions: [...want.values()] };
  const deletions: Element[] = [];
  const additions: Element[] = [];
  for (const [key, element] of have) {
    const wanted = want.get(key);
    if (wanted === undefined || !sameElement(element, wanted)) deletions.push(element);
  }
  for (const [key, element] of want) {
    const existing = have.get(key);
    if (existing === undefined || !sameElement(existing, element)) additions.push(element);
  }
  return { deletions, additions };
}
