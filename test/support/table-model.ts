// A table of nf_tables held in memory: takes element operations as the kernel does, all of them or none.
import { sameElement } from '../../backends/nft-table/operations.ts';
import type { Elements, Operations } from '../../backends/nftables/changes.ts';
import type { SetName } from '../../backends/nftables/schema.ts';
import type { Element } from '../../native/nftables/batch.ts';

/** Refuses like the kernel: ENOENT for deleting what is not there, EEXIST for other data under a key or an overlap. */
export class TableModel {
  elements: Elements = new Map();

  get size(): number {
    return [...this.elements.values()].reduce((sum, set) => sum + set.size, 0);
  }

  apply({ deletions, additions }: Operations): void {
    const next: Elements = new Map([...this.elements].map(([set, elements]) => [set, new Map(elements)]));
    for (const [set, elements] of deletions) {
      for (const element of elements) {
        const old = next.get(set)?.get(element.key);
        if (old === undefined || old.keyEnd !== element.keyEnd) throw new Error(`${set}: ENOENT ${hex(element.key)}`);
        next.get(set)!.delete(element.key);
      }
    }
    for (const [set, elements] of additions) {
      let into = next.get(set);
      if (!into) next.set(set, (into = new Map()));
      for (const element of elements) {
        const old = into.get(element.key);
        if (old !== undefined && !sameElement(old, element)) throw new Error(`${set}: EEXIST ${hex(element.key)}`);
        if (element.keyEnd !== undefined && overlaps(element, into.values()))
          throw new Error(`${set}: EEXIST, overlap`);
        into.set(element.key, element);
      }
    }
    this.elements = next;
  }

  /** As `set key end data comment`, sorted: for comparisons. */
  lines(): string[] {
    return elementLines(this.elements);
  }
}

export function elementLines(elements: Elements, except: readonly SetName[] = []): string[] {
  const out: string[] = [];
  for (const [set, list] of elements) {
    if (except.includes(set)) continue;
    for (const { key, keyEnd = '', data = '', comment = '' } of list.values()) {
      out.push(`${set} ${hex(key)} ${hex(keyEnd)} ${hex(data)} ${comment}`);
    }
  }
  return out.sort();
}

/** Keys are a frontend, the same in both, and an address. */
function overlaps(element: Element, others: Iterable<Element>): boolean {
  for (const { key, keyEnd } of others) {
    if (key.length !== element.key.length || key === element.key) continue;
    const addressLength = key.length === 16 ? 4 : 16;
    if (key.slice(0, -addressLength) !== element.key.slice(0, -addressLength)) continue;
    if (element.key <= (keyEnd ?? key) && key <= element.keyEnd!) return true;
  }
  return false;
}

const hex = (bytes: string): string => Buffer.from(bytes, 'latin1').toString('hex');
