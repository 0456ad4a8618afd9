// Action words: what a frontend's entry in `services` or `nodeports` says, and the chain it stands for.
//   0x80000000 | kind << 16 | N        N = number of endpoints, 0 for the two policy-Local chains
// Bit 31 keeps a word apart from any skb priority that an ordinary program sets. A chain is shared by all Services with
// the same kind and N; verdicts stay out of `services` so that changing it never makes the kernel re-validate chains.

/** Which set the chain chooses from and whether it marks for masquerade; `np-` chains serve node ports. */
export const PREFIXES = ['lb', 'mq', 'll', 'np-lb', 'np-mq', 'np-ll'] as const;
export type Prefix = (typeof PREFIXES)[number];

export const EXTERNAL_LOCAL = 'external-local';
export const NODEPORT_LOCAL = 'nodeport-local';

/** The largest number of endpoints one frontend can have: N has 16 bits. */
export const MAX_ENDPOINTS = 0xffff;

const WORD = 0x80000000;
const KINDS: Readonly<Record<Prefix, number>> = { lb: 1, mq: 2, ll: 3, 'np-lb': 5, 'np-mq': 6, 'np-ll': 7 };
export const EXTERNAL_LOCAL_WORD = (WORD | (0x10 << 16)) >>> 0;
export const NODEPORT_LOCAL_WORD = (WORD | (0x11 << 16)) >>> 0;
const FIRST_AFFINITY_KIND = 0x100;
const LAST_KIND = 0x7fff;

/** A chain that chooses one of `count` endpoints; `affinitySeconds` null without session affinity. */
export interface Action {
  readonly prefix: Prefix;
  readonly count: number;
  readonly affinitySeconds: number | null;
}

/** `lb-3`, or `lb-sa10800-3` with affinity. */
export function chainName({ prefix, count, affinitySeconds }: Action): string {
  return affinitySeconds === null ? `${prefix}-${count}` : `${prefix}-sa${affinitySeconds}-${count}`;
}

/** The inverse of chainName; null for a chain of another kind. */
export function parseChainName(name: string): Action | null {
  const m = /^(np-)?(lb|mq|ll)-(?:sa(\d+)-)?(\d+)$/.exec(name);
  if (!m) return null;
  const affinitySeconds = m[3] === undefined ? null : Number(m[3]);
  const count = Number(m[4]);
  if (count < 1 || count > MAX_ENDPOINTS || affinitySeconds === 0) return null;
  return { prefix: `${m[1] ?? ''}${m[2]}` as Prefix, count, affinitySeconds };
}

export const wordKind = (word: number): number => (word >>> 16) & 0x7fff;
export const wordCount = (word: number): number => word & 0xffff;

/**
 * Numbers the action kinds. Kinds with affinity (one for each prefix and timeout) are numbered in order of first use,
 * and a restarted agent learns the numbers in use from the kernel.
 */
export class ActionWords {
  readonly #affinityKinds = new Map<string, number>();
  readonly #affinityNames = new Map<number, string>();
  #next = FIRST_AFFINITY_KIND;

  word(action: Action): number {
    return (WORD | (this.#kind(action) << 16) | action.count) >>> 0;
  }

  /** The action of a word this object has numbered or learned; null for the policy-Local words and unknown ones. */
  action(word: number): Action | null {
    const kind = wordKind(word);
    const prefix = PREFIXES.find((p) => KINDS[p] === kind);
    if (prefix) return { prefix, count: wordCount(word), affinitySeconds: null };
    const name = this.#affinityNames.get(kind);
    return name === undefined ? null : parseChainName(`${name}-${wordCount(word)}`);
  }

  /** Numbers the chains with this affinity timeout; false when the numbers are used up (some 5,000 timeouts). */
  reserve(affinitySeconds: number): boolean {
    const names = PREFIXES.map((prefix) => `${prefix}-sa${affinitySeconds}`);
    const unknown = names.filter((name) => !this.#affinityKinds.has(name));
    if (this.#next + unknown.length > LAST_KIND + 1) return false;
    for (const name of unknown) this.#number(name, this.#next);
    return true;
  }

  #kind({ prefix, affinitySeconds }: Action): number {
    if (affinitySeconds === null) return KINDS[prefix];
    const name = `${prefix}-sa${affinitySeconds}`;
    const kind = this.#affinityKinds.get(name);
    if (kind === undefined) throw new Error(`${name} has not been reserved`);
    return kind;
  }

  /** Takes over the number that a chain with affinity has in the kernel; ignores what it did not write itself. */
  learn(word: number, chain: string): void {
    const action = parseChainName(chain);
    const kind = wordKind(word);
    if (!action || action.affinitySeconds === null || kind < FIRST_AFFINITY_KIND) return;
    this.#number(`${action.prefix}-sa${action.affinitySeconds}`, kind);
  }

  #number(name: string, kind: number): void {
    this.#affinityKinds.set(name, kind);
    this.#affinityNames.set(kind, name);
    this.#next = Math.max(this.#next, kind + 1);
  }
}
