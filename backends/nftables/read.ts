// Reads this mode's tables from the kernel, all belonging to one generation. Many endpoints are read by key.
import type { Family } from '../../native/ip.ts';
import type { Element } from '../../native/nftables/batch.ts';
import type { NftConnection } from '../../native/nftables/connection.ts';
import { u32FromHost } from '../../native/nftables/constants.ts';
import { indexBytes } from '../nft-table/fields.ts';
import { type KernelTable, readElements, readTables, readUnchanged } from '../nft-table/read.ts';
import { parseChainName, wordCount } from './actions.ts';
import type { Elements } from './changes.ts';
import { LAYOUT, SET_NAMES, type SetName, TABLE } from './schema.ts';

/** Dumps take quadratic time; sets that hold more elements are read by key. */
const READ_BY_KEY_ABOVE = 60_000;

const INDEXED: readonly SetName[] = ['endpoints', 'local-endpoints'];
/** All but those, and the client memory of session affinity. */
const DUMPED = SET_NAMES.filter((set) => set !== 'affinity' && !INDEXED.includes(set));

/** What the kernel holds and the generation it was read in. A generation of null: it kept changing while being read. */
export interface KernelState {
  readonly generation: number | null;
  readonly tables: ReadonlyMap<Family, KernelTable<SetName>>;
  /** Families in which a table of kube-proxy exists. */
  readonly kubeProxy: readonly Family[];
}

/** Reads the tables of these families, again if they change meanwhile. */
export function readKernel(nft: NftConnection, families: readonly Family[]): Promise<KernelState> {
  return readUnchanged(nft, async (generation) => {
    const present = nft.tables();
    const tables = await readTables(nft, LAYOUT, { families, generation, present, sets: DUMPED });
    for (const [family, table] of tables) {
      if (table.damaged === null) await readEndpoints(nft, family, generation, table);
    }
    return { tables, kubeProxy: present.filter((t) => t.name === 'kube-proxy').map((t) => t.family) };
  });
}

async function readEndpoints(
  nft: NftConnection,
  family: Family,
  generation: number,
  { sets, elements }: KernelTable<SetName>,
): Promise<void> {
  const keys = endpointKeys(elements);
  for (const set of INDEXED) {
    const wanted = keys.get(set)!;
    const byKey = sets.has(set) && wanted.length > READ_BY_KEY_ABOVE;
    const found = byKey ? await readByKeys(nft, family, set, wanted) : null;
    elements.set(set, found ?? (sets.has(set) ? await readElements(nft, LAYOUT, family, set, generation) : new Map()));
  }
}

/** Null when one of these elements is missing. */
async function readByKeys(
  nft: NftConnection,
  family: Family,
  set: SetName,
  keys: string[],
): Promise<Map<string, Element> | null> {
  const found = new Map<string, Element>();
  const complete = await nft.elementsByKey(family, TABLE, set, keys, (e) => found.set(e.key, e));
  return complete ? found : null;
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
