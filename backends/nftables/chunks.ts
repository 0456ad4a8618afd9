// Operations that are too big for one transaction, in several, each of which leaves every frontend consistent.
import type { Element } from '../../native/nftables/batch.ts';
import { emptyOperations, push } from '../nft-table/operations.ts';
import type { Operations } from './changes.ts';
import { SET_NAMES, type SetName } from './schema.ts';

/** Sets whose elements do not begin with a frontend. */
const SHARED: ReadonlySet<SetName> = new Set([
  'cluster-ips',
  'hairpin',
  'nodeport-ips',
  'actions',
  'local-actions',
  'affinity',
]);
/** Words that count only once `services` or `nodeports` leads to the policy-Local chains. */
const SECOND: ReadonlySet<SetName> = new Set(['short-circuit', 'local-only']);
/** What decides how a frontend is served: takes effect at once for new packets. */
const DECIDING: ReadonlySet<SetName> = new Set([
  'services',
  'nodeports',
  ...SECOND,
  'no-endpoints-reject',
  'no-endpoints-drop',
]);
const SOURCES: ReadonlySet<SetName> = new Set(['source-restricted', 'source-allowed']);
const BYTES_PER_ELEMENT = 120;

/** What becomes of one key; at least one of both is there. */
interface Change {
  readonly set: SetName;
  readonly key: string;
  readonly old: Element | null;
  readonly now: Element | null;
}

/** An upper estimate of what operations take on the wire. */
export function operationBytes(operations: Operations): number {
  let count = 0;
  for (const lists of [operations.deletions, operations.additions])
    for (const list of lists.values()) count += list.length;
  return count * BYTES_PER_ELEMENT;
}

/**
 * First what is shared and new, then the frontends, each at once if it fits, at last what is shared and no longer used.
 * `frontendLength`: bytes of a frontend's key.
 */
export function chunks(operations: Operations, maxBytes: number, frontendLength: number): Operations[] {
  const shared: Change[] = [];
  const frontends = new Map<string, Change[]>();
  for (const change of changesOf(operations)) {
    if (SHARED.has(change.set)) shared.push(change);
    else push(frontends, change.key.slice(0, frontendLength), change);
  }
  const parts = new Parts(maxBytes);
  for (const change of shared) if (change.now) parts.add([change]);
  for (const changes of frontends.values()) {
    const units = bytesOf(changes) <= maxBytes ? [changes] : inSteps(changes);
    for (const unit of units) parts.add(unit);
  }
  for (const change of shared) if (!change.now) parts.add([change]);
  return parts.list;
}

function changesOf({ deletions, additions }: Operations): Change[] {
  const out: Change[] = [];
  for (const set of SET_NAMES) {
    const old = new Map((deletions.get(set) ?? []).map((element) => [element.key, element]));
    for (const now of additions.get(set) ?? []) {
      out.push({ set, key: now.key, old: old.get(now.key) ?? null, now });
      old.delete(now.key);
    }
    for (const [key, element] of old) out.push({ set, key, old: element, now: null });
  }
  return out;
}

/**
 * The changes of a frontend that is too big by itself: what nothing leads to yet, replacements, new words, words that
 * go, what nothing leads to any more. Source ranges stay together; they are never absent while anything is served.
 */
function inSteps(all: readonly Change[]): Change[][] {
  const sources = all.filter((change) => SOURCES.has(change.set));
  const changes = all.filter((change) => !SOURCES.has(change.set));
  const appears = ({ old }: Change): boolean => old === null;
  const goes = ({ now }: Change): boolean => now === null;
  const decides = ({ set }: Change): boolean => DECIDING.has(set);
  const steps: readonly ((change: Change) => boolean)[] = [
    (change) => appears(change) && !decides(change),
    (change) => appears(change) && SECOND.has(change.set),
    (change) => !appears(change) && !goes(change),
    (change) => appears(change) && decides(change) && !SECOND.has(change.set),
    (change) => goes(change) && decides(change),
    (change) => goes(change) && !decides(change),
  ];
  const single = steps.flatMap((step) => changes.filter(step).map((change) => [change]));
  if (sources.length === 0) return single;
  return sources.every(goes) ? [...single, sources] : [sources, ...single];
}

const bytesOf = (changes: readonly Change[]): number =>
  changes.reduce((sum, { old, now }) => sum + (old && now ? 2 : 1), 0) * BYTES_PER_ELEMENT;

/** Fills one transaction after another. */
class Parts {
  readonly list: Operations[] = [];
  readonly #maxBytes: number;
  #room = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Puts changes into one transaction. */
  add(changes: readonly Change[]): void {
    const bytes = bytesOf(changes);
    if (this.list.length === 0 || bytes > this.#room) {
      this.list.push(emptyOperations());
      this.#room = this.#maxBytes;
    }
    this.#room -= bytes;
    const { deletions, additions } = this.list.at(-1)!;
    for (const { set, old, now } of changes) {
      if (old) push(deletions, set, old);
      if (now) push(additions, set, now);
    }
  }
}
