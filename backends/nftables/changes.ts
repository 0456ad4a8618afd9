// Collects what several Services no longer need and what they need now, and reduces it to the operations the kernel
// must see: equal old and new vanish, and a key is deleted and added at most once.
import type { Element } from '../../native/nftables/batch.ts';
import { u32FromHost } from '../../native/nftables/constants.ts';
import {
  type ElementsOf,
  emptyOperations,
  type OperationsOf,
  push,
  type ReferenceCounts,
  sameElement,
} from '../nft-table/operations.ts';
import { wordKind } from './actions.ts';
import type { SetName } from './schema.ts';

/** Elements by set and key. */
export type Elements = ElementsOf<SetName>;
export type Operations = OperationsOf<SetName>;

/** Sets whose elements several Services may need at once. */
export const SHARED_SETS: ReadonlySet<SetName> = new Set(['cluster-ips', 'hairpin']);

const WORD_SETS: ReadonlySet<SetName> = new Set(['services', 'nodeports', 'short-circuit', 'local-only']);
/** Sets that an action chain reads; a packet that still follows an old word may need their old elements. */
const READ_BY_CHAINS: ReadonlySet<SetName> = new Set([
  'short-circuit',
  'local-only',
  'endpoints',
  'local-endpoints',
  'affinity-services',
  'affinity-slots',
  'local-affinity-slots',
  'affinity-endpoints',
  'local-affinity-endpoints',
]);

interface Change {
  old: Element | null;
  new: Element | null;
}

export interface Reduced {
  readonly now: Operations;
  /** Deletions to make in a later transaction. */
  readonly later: Map<SetName, Element[]>;
  /** Keys of leftovers that are needed again. */
  readonly reclaimed: readonly (readonly [SetName, string])[];
  /** Changes of the reference counts once `now` is committed. */
  readonly references: readonly (readonly [SetName, string, number])[];
}

export class ElementChanges {
  readonly #sets = new Map<SetName, Map<string, Change>>();
  readonly #shared = new Map<SetName, Map<string, { element: Element; delta: number }>>();

  /** An element that was needed. */
  remove(set: SetName, element: Element): void {
    if (SHARED_SETS.has(set)) this.#count(set, element, -1);
    else this.#change(set, element.key).old = element;
  }

  /** An element that is needed. */
  add(set: SetName, element: Element): void {
    if (SHARED_SETS.has(set)) this.#count(set, element, 1);
    else this.#change(set, element.key).new = element;
  }

  #change(set: SetName, key: string): Change {
    let changes = this.#sets.get(set);
    if (!changes) this.#sets.set(set, (changes = new Map()));
    let change = changes.get(key);
    if (!change) changes.set(key, (change = { old: null, new: null }));
    return change;
  }

  #count(set: SetName, element: Element, by: number): void {
    let counts = this.#shared.get(set);
    if (!counts) this.#shared.set(set, (counts = new Map()));
    const count = counts.get(element.key);
    if (count) count.delta += by;
    else counts.set(element.key, { element, delta: by });
  }

  /**
   * `references`: counts before this change. `leftovers`: elements still in the kernel that wait for their deletion.
   * `keyLength`: length of a frontend key, which begins the key of every set that chains read.
   */
  reduce(references: ReferenceCounts<SetName>, leftovers: Elements, keyLength: number): Reduced {
    const now: Operations = emptyOperations();
    const later = new Map<SetName, Element[]>();
    const reclaimed: [SetName, string][] = [];
    const deltas: [SetName, string, number][] = [];
    for (const [set, counts] of this.#shared) {
      for (const [key, { element, delta }] of counts) {
        if (delta === 0) continue;
        const before = references.get(set, key);
        deltas.push([set, key, delta]);
        if (before === 0 && delta > 0) push(now.additions, set, element);
        else if (before > 0 && before + delta <= 0) push(now.deletions, set, element);
      }
    }
    const switched = this.#switched(keyLength);
    for (const [set, changes] of this.#sets) {
      const waiting = leftovers.get(set);
      const deferrable = switched.size > 0 && READ_BY_CHAINS.has(set);
      for (const [key, change] of changes) {
        const old = change.old ?? waiting?.get(key) ?? null;
        if (change.new !== null && waiting?.has(key)) reclaimed.push([set, key]);
        if (change.new === null) {
          if (old === null) continue;
          if (deferrable && switched.has(key.slice(0, keyLength))) push(later, set, old);
          else push(now.deletions, set, old);
        } else if (old === null) {
          push(now.additions, set, change.new);
        } else if (!sameElement(old, change.new)) {
          push(now.deletions, set, old);
          push(now.additions, set, change.new);
        }
      }
    }
    return { now, later, reclaimed, references: deltas };
  }

  /** Frontends whose chain will read other maps than before. */
  #switched(keyLength: number): Set<string> {
    const out = new Set<string>();
    for (const set of WORD_SETS) {
      for (const [key, change] of this.#sets.get(set) ?? []) {
        if (change.old === null || change.new === null) continue;
        const kind = (element: Element): number => wordKind(u32FromHost(element.data!));
        if (kind(change.old) !== kind(change.new)) out.add(key.slice(0, keyLength));
      }
    }
    return out;
  }
}
