// Reads this project's table of one family from the kernel, all of it belonging to one generation.
import type { Family } from '../../native/ip.ts';
import type { Element } from '../../native/nftables/batch.ts';
import { InterruptedDump, type KernelSet, type NftConnection } from '../../native/nftables/connection.ts';
import { SET_FLAG, u32FromHost } from '../../native/nftables/constants.ts';
import type { Expression } from '../../native/nftables/expression.ts';
import { indexBytes } from '../nft-table/fields.ts';
import { parseChainName, wordCount } from './actions.ts';
import type { Elements } from './changes.ts';
import { SET_NAMES, SETS, type SetName, TABLE, TABLE_USERDATA } from './schema.ts';

export interface KernelTable {
  /** The table's comment is not ours, or an object cannot be repaired in place: it must be replaced. */
  readonly damaged: string | null;
  /** Name → `type:hook:priority`, '' for a regular chain. */
  readonly chains: ReadonlyMap<string, string>;
  readonly rules: ReadonlyMap<string, readonly (readonly Expression[])[]>;
  readonly sets: ReadonlySet<string>;
  /** Elements of all our sets but the client memory of session affinity. */
  readonly elements: Elements;
}

/** Dumps take quadratic time; sets that hold more elements are read by key. */
const READ_BY_KEY_ABOVE = 60_000;
const ATTEMPTS = 5;

/** What the kernel holds and the generation it was read in. A generation of null: it kept changing while being read. */
export interface KernelState {
  readonly generation: number | null;
  readonly tables: ReadonlyMap<Family, KernelTable>;
  /** Families in which a table of kube-proxy exists. */
  readonly kubeProxy: readonly Family[];
}

/** Reads the tables of these families, again if they change meanwhile. */
export async function readKernel(nft: NftConnection, families: readonly Family[]): Promise<KernelState> {
  for (let attempt = 1; ; attempt++) {
    const generation = nft.generation();
    try {
      const state = await readOnce(nft, families, generation);
      if (nft.generation() === generation) return { generation, ...state };
      if (attempt >= ATTEMPTS) return { generation: null, ...state };
    } catch (error) {
      if (!(error instanceof InterruptedDump) || attempt >= ATTEMPTS * 4) throw error;
    }
  }
}

async function readOnce(
  nft: NftConnection,
  families: readonly Family[],
  generation: number,
): Promise<Omit<KernelState, 'generation'>> {
  const tables = new Map<Family, KernelTable>();
  const all = nft.tables();
  for (const family of families) {
    const ours = all.find((t) => t.family === family && t.name === TABLE);
    if (ours) tables.set(family, await readTable(nft, family, generation, ours.userdata));
  }
  return { tables, kubeProxy: all.filter((t) => t.name === 'kube-proxy').map((t) => t.family) };
}

const sameSet = (a: KernelSet, family: Family): boolean => {
  const b = SETS[family][a.name as SetName];
  return (
    a.flags === b.flags &&
    a.keyType === b.keyType &&
    a.keyLength === b.keyLength &&
    a.dataType === b.dataType &&
    (b.dataLength === undefined || a.dataLength === b.dataLength) &&
    a.userdata === b.userdata
  );
};

async function readTable(
  nft: NftConnection,
  family: Family,
  generation: number,
  userdata: string,
): Promise<KernelTable> {
  const chains = new Map(nft.chains(family, TABLE).map((c) => [c.name, c.base]));
  const sets = nft.sets(family, TABLE);
  // Anonymous sets belong to a rule and go with it.
  const names = new Set(sets.filter((s) => (s.flags & SET_FLAG.anonymous) === 0).map((s) => s.name));
  const foreign = sets.find((s) => SETS[family][s.name as SetName] && !sameSet(s, family));
  const damaged =
    userdata !== TABLE_USERDATA ? 'its comment is not ours' : foreign ? `set ${foreign.name} has another type` : null;
  const elements: Elements = new Map();
  const table = { damaged, chains, rules: nft.rules(family, TABLE), sets: names, elements };
  if (damaged !== null) return table;
  const dump = async (set: SetName): Promise<void> => {
    const found = new Map<string, Element>();
    if (names.has(set)) await nft.elements(family, TABLE, set, generation, (e) => found.set(e.key, e));
    elements.set(set, found);
  };
  const indexed: readonly SetName[] = ['endpoints', 'local-endpoints'];
  for (const set of SET_NAMES) if (set !== 'affinity' && !indexed.includes(set)) await dump(set);
  const keys = endpointKeys(elements);
  for (const set of indexed) {
    const wanted = keys.get(set)!;
    if (
      !names.has(set) ||
      wanted.length <= READ_BY_KEY_ABOVE ||
      !(await readByKeys(nft, family, set, wanted, elements))
    )
      await dump(set);
  }
  return table;
}

async function readByKeys(
  nft: NftConnection,
  family: Family,
  set: SetName,
  keys: string[],
  into: Elements,
): Promise<boolean> {
  const found = new Map<string, Element>();
  const complete = await nft.elementsByKey(family, TABLE, set, keys, (e) => found.set(e.key, e));
  if (complete) into.set(set, found);
  return complete;
}

/** Keys that `endpoints` and `local-endpoints` must have, going by the words that frontends carry. */
function endpointKeys(elements: Elements): Map<SetName, string[]> {
  const chainOf = new Map<number, string>();
  for (const element of elements.get('actions')?.values() ?? [])
    chainOf.set(u32FromHost(element.key), element.data ?? '');
  const out = new Map<SetName, string[]>([
    ['endpoints', []],
    ['local-endpoints', []],
  ]);
  for (const map of ['services', 'nodeports', 'short-circuit', 'local-only'] as const) {
    for (const { key, data } of elements.get(map)?.values() ?? []) {
      const word = u32FromHost(data!);
      const action = parseChainName(chainOf.get(word) ?? '');
      if (!action || action.affinitySeconds !== null) continue;
      const keys = out.get(action.prefix.endsWith('ll') ? 'local-endpoints' : 'endpoints')!;
      for (let i = 0; i < wordCount(word); i++) keys.push(key + indexBytes(i));
    }
  }
  return out;
}
