// The companion table of each family: what it shall be, what the kernel holds of it, and both as text.
import { FAMILIES, type Family } from '../../native/ip.ts';
import { NftConnection } from '../../native/nftables/connection.ts';
import type { ElementsOf } from '../nft-table/operations.ts';
import { probeTable } from '../nft-table/probe.ts';
import { type KernelTable, readTables, readUnchanged } from '../nft-table/read.ts';
import type { Rule } from '../nft-table/rule-parts.ts';
import type { DesiredTable } from '../nft-table/table-plan.ts';
import { chainTexts, kernelChainTexts, type Selection, tableParts } from '../nft-table/text.ts';
import type { NodeSettings } from '../service-plan.ts';
import { companionChains } from './companion-chains.ts';
import { COMPANION, type CompanionSet } from './companion-schema.ts';

export type CompanionElements = ElementsOf<CompanionSet>;

/** The table that holds these elements. */
export function desiredCompanion(
  family: Family,
  settings: NodeSettings,
  elements: CompanionElements,
): DesiredTable<CompanionSet> {
  return { layout: COMPANION, family, chains: companionChains(family, settings), elements };
}

/** @throws Error with the reason why this kernel cannot hold the tables of these families. */
export async function probeCompanion(families: readonly Family[] = FAMILIES): Promise<void> {
  const settings: NodeSettings = { masqueradeAll: false, masqueradeBit: 14, dropInvalid: false, families: {} };
  const nft = new NftConnection();
  try {
    for (const family of families) await probeTable(nft, COMPANION, family, companionChains(family, settings));
  } finally {
    nft.close();
  }
}

/** What the kernel holds and the generation it was read in. A generation of null: it kept changing while being read. */
export interface CompanionState {
  readonly generation: number | null;
  readonly tables: ReadonlyMap<Family, KernelTable<CompanionSet>>;
}

/** Reads the tables of these families that exist, again if they change meanwhile. */
export function readCompanion(nft: NftConnection, families: readonly Family[]): Promise<CompanionState> {
  return readUnchanged(nft, async (generation) => {
    const options = { families, generation, present: nft.tables(), sets: COMPANION.setNames };
    return { tables: await readTables(nft, COMPANION, options) };
  });
}

/** What of a table belongs to one Service; chains belong to none. */
function selectionOf(own: ReadonlyMap<CompanionSet, ReadonlyMap<string, unknown>>): Selection<CompanionSet> {
  return { includes: (set, { key }) => own.get(set)?.has(key) === true, chainsOf: () => [] };
}

/** Elements that a text is limited to, by set and key. */
export type CompanionSelection = Parameters<typeof selectionOf>[0];

/** A table as `nft list table` prints it, in parts that take little time each; with `own` only these elements. */
export function companionParts(table: DesiredTable<CompanionSet>, own?: CompanionSelection): Generator<string> {
  const { layout, family, chains, elements } = table;
  return tableParts({ layout, family, chains: chainTexts(chains), elements }, own && selectionOf(own));
}

/** The same of what the kernel holds. Rules that follow from `settings` are printed as nft does, others as expressions. */
export function kernelCompanionParts(
  family: Family,
  table: KernelTable<CompanionSet>,
  settings: NodeSettings | null,
  own?: CompanionSelection,
): Generator<string> {
  const rules: Rule[] = settings ? [...companionChains(family, settings).values()].flat() : [];
  const known = new Map(rules.map((rule) => [JSON.stringify(rule.expressions), rule.text]));
  const view = { layout: COMPANION, family, chains: kernelChainTexts(table, known), elements: table.elements };
  return tableParts(view, own && selectionOf(own));
}
