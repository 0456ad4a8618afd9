// Reads tables of this project from the kernel, all of them belonging to one generation.
import type { Family } from '../../native/ip.ts';
import type { Element, SetDeclaration } from '../../native/nftables/batch.ts';
import { InterruptedDump, type NftConnection } from '../../native/nftables/connection.ts';
import { SET_FLAG } from '../../native/nftables/constants.ts';
import type { Expression } from '../../native/nftables/expression.ts';
import type { KernelSet } from '../../native/nftables/results.ts';
import { TABLE_USERDATA, type TableLayout } from './layout.ts';
import type { ElementsOf } from './operations.ts';

export interface KernelTable<S extends string> {
  /** The table's comment is not ours, or an object cannot be repaired in place: it must be replaced. */
  readonly damaged: string | null;
  /** Name → `type:hook:priority`, '' for a regular chain. */
  readonly chains: ReadonlyMap<string, string>;
  readonly rules: ReadonlyMap<string, readonly (readonly Expression[])[]>;
  readonly sets: ReadonlySet<string>;
  /** Elements of our sets, without those that only packets write. */
  readonly elements: ElementsOf<S>;
}

const ATTEMPTS = 5;

/**
 * Calls `read` with the generation of the ruleset, again if that changes meanwhile. A generation of null: it kept
 * changing.
 */
export async function readUnchanged<T extends object>(
  nft: NftConnection,
  read: (generation: number) => Promise<T>,
): Promise<T & { readonly generation: number | null }> {
  for (let attempt = 1; ; attempt++) {
    const generation = nft.generation();
    try {
      const state = await read(generation);
      if (nft.generation() === generation) return { ...state, generation };
      if (attempt >= ATTEMPTS) return { ...state, generation: null };
    } catch (error) {
      if (!(error instanceof InterruptedDump) || attempt >= ATTEMPTS * 4) throw error;
    }
  }
}

export interface ReadOptions<S extends string> {
  readonly families: readonly Family[];
  readonly generation: number;
  /** All tables there are. */
  readonly present: ReturnType<NftConnection['tables']>;
  /** Sets whose elements to read. */
  readonly sets: readonly S[];
}

/** The tables of a layout that exist. @throws InterruptedDump */
export async function readTables<S extends string>(
  nft: NftConnection,
  layout: TableLayout<S>,
  options: ReadOptions<S>,
): Promise<Map<Family, KernelTable<S>>> {
  const out = new Map<Family, KernelTable<S>>();
  for (const family of options.families) {
    const ours = options.present.find((t) => t.family === family && t.name === layout.name);
    if (!ours) continue;
    const table = readStructure(nft, layout, family, ours.userdata);
    out.set(family, table);
    if (table.damaged !== null) continue;
    for (const set of options.sets) {
      const exists = table.sets.has(set);
      table.elements.set(set, exists ? await readElements(nft, layout, family, set, options.generation) : new Map());
    }
  }
  return out;
}

/** Elements of a set by key. @throws InterruptedDump */
export async function readElements<S extends string>(
  nft: NftConnection,
  layout: TableLayout<S>,
  family: Family,
  set: S,
  generation: number,
): Promise<Map<string, Element>> {
  const found = new Map<string, Element>();
  await nft.elements(family, layout.name, set, generation, (e) => found.set(e.key, e));
  return found;
}

function readStructure<S extends string>(
  nft: NftConnection,
  layout: TableLayout<S>,
  family: Family,
  userdata: string,
): KernelTable<S> {
  const sets = nft.sets(family, layout.name);
  const declared = (set: KernelSet): SetDeclaration | undefined => layout.sets[family][set.name as S];
  const foreign = sets.find((set) => declared(set) && !sameSet(set, declared(set)!));
  return {
    damaged:
      userdata !== TABLE_USERDATA ? 'its comment is not ours' : foreign ? `set ${foreign.name} has another type` : null,
    chains: new Map(nft.chains(family, layout.name).map((c) => [c.name, c.base])),
    rules: nft.rules(family, layout.name),
    // Anonymous sets belong to a rule and go with it.
    sets: new Set(sets.filter((s) => (s.flags & SET_FLAG.anonymous) === 0).map((s) => s.name)),
    elements: new Map(),
  };
}

const sameSet = (a: KernelSet, b: SetDeclaration): boolean =>
  a.flags === b.flags &&
  a.keyType === b.keyType &&
  a.keyLength === b.keyLength &&
  a.dataType === b.dataType &&
  (b.dataLength === undefined || a.dataLength === b.dataLength) &&
  a.userdata === b.userdata;
