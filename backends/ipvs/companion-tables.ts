// The companion tables of both families: what the kernel holds of them, and the transactions that change them.
import type { Family } from '../../native/ip.ts';
import type { Element } from '../../native/nftables/batch.ts';
import type { NftConnection } from '../../native/nftables/connection.ts';
import type { SyncCounts } from '../backend.ts';
import { type Committer, TransactionRefused } from '../nft-table/committer.ts';
import { emptyOperations, type OperationsOf, push, sameElement } from '../nft-table/operations.ts';
import type { KernelTable } from '../nft-table/read.ts';
import {
  asKernelTable,
  describeSteps,
  type ElementSteps,
  hasElements,
  hasStructure,
  noSteps,
  planTable,
  type TableSteps,
  writeElements,
  writeRemovals,
  writeStructure,
} from '../nft-table/table-plan.ts';
import type { NodeSettings } from '../service-plan.ts';
import {
  type CompanionElements,
  type CompanionSelection,
  companionParts,
  desiredCompanion,
  readCompanion,
} from './companion.ts';
import { COMPANION, type CompanionSet } from './companion-schema.ts';
import type { Ledger, Touched } from './ledger.ts';

type Ledgers = ReadonlyMap<Family, Ledger>;

export class CompanionTables {
  readonly #nft: NftConnection;
  readonly #committer: Committer;
  /** What the kernel holds, as of the last reading and all that was committed since. */
  readonly #held = new Map<Family, KernelTable<CompanionSet>>();

  constructor(nft: NftConnection, committer: Committer) {
    this.#nft = nft;
    this.#committer = committer;
  }

  /** Forgets everything and reads the kernel. */
  async read(families: readonly Family[]): Promise<void> {
    const { tables } = await readCompanion(this.#nft, families);
    this.#held.clear();
    for (const [family, table] of tables) this.#held.set(family, table);
  }

  /** Keys of elements that the kernel holds and no Service wants. */
  unwanted(ledger: Ledger): Touched['elements'] {
    const elements = this.#held.get(ledger.family)?.elements ?? new Map<CompanionSet, Map<string, Element>>();
    const unwanted = (set: CompanionSet, keys: Iterable<string>): Set<string> =>
      new Set([...keys].filter((key) => ledger.element(set, key) === null));
    return new Map([...elements].map(([set, list]) => [set, unwanted(set, list.keys())]));
  }

  /** What is otherwise than it shall be, in words; null when nothing is. */
  difference(settings: NodeSettings, ledgers: Ledgers): string | null {
    const steps = [...ledgers].map(([family, ledger]) => this.#plan(settings, family, wantedElements(ledger)));
    const different = steps.filter((step) => !noSteps(step)).map(describeSteps);
    return different.length > 0 ? `companion table: ${different.join('; ')}` : null;
  }

  #plan(settings: NodeSettings, family: Family, elements: CompanionElements): TableSteps<CompanionSet> {
    return planTable(this.#held.get(family) ?? null, desiredCompanion(family, settings, elements));
  }

  /**
   * Makes tables, sets, chains and rules what the settings ask for. Where something of that is missing, elements come in
   * the same transaction, unless the kernel refuses one of them: there is no moment without filters.
   */
  async applyStructure(settings: NodeSettings, ledgers: Ledgers, counts: SyncCounts): Promise<void> {
    const apply = async (elementsOf: (family: Family, ledger: Ledger) => CompanionElements): Promise<void> => {
      const tables = [...ledgers].map(([f, ledger]) => desiredCompanion(f, settings, elementsOf(f, ledger)));
      const changed = tables
        .map((table) => [table, planTable(this.#held.get(table.family) ?? null, table)] as const)
        .filter(([, step]) => step.replaceTable !== 'none' || hasStructure(step));
      await this.#committer.commit(counts, (batch) => {
        for (const [, step] of changed) writeStructure(batch, step);
        for (const [, step] of changed) writeElements(batch, step);
        for (const [, step] of changed) writeRemovals(batch, step);
      });
      for (const [table] of changed) this.#held.set(table.family, asKernelTable(table));
    };
    try {
      await apply((_, ledger) => wantedElements(ledger));
    } catch (error) {
      if (!(error instanceof TransactionRefused)) throw error;
      await apply((family) => this.#heldElements(settings, family));
    }
  }

  /** Those that stay when only structure changes. */
  #heldElements(settings: NodeSettings, family: Family): CompanionElements {
    const held = this.#held.get(family)?.elements ?? new Map();
    return this.#plan(settings, family, held).replaceTable === 'none' ? held : new Map();
  }

  /** Makes these elements what Services want, in one transaction. @throws TransactionRefused, OutcomeUnknown */
  async update(touched: ReadonlyMap<Family, Touched['elements']>, ledgers: Ledgers, counts: SyncCounts): Promise<void> {
    const steps = [...touched].map(
      ([family, keys]): ElementSteps<CompanionSet> => ({
        layout: COMPANION,
        family,
        elements: this.#operations(family, keys, ledgers.get(family)!),
      }),
    );
    const real = steps.filter(({ elements }) => hasElements(elements));
    if (real.length === 0) return;
    await this.#committer.commit(counts, (batch) => {
      for (const step of real) writeElements(batch, step);
    });
    for (const { family, elements } of real) this.#note(family, elements);
  }

  #operations(family: Family, touched: Touched['elements'], ledger: Ledger): OperationsOf<CompanionSet> {
    const operations = emptyOperations<CompanionSet>();
    for (const [set, keys] of touched) {
      const held = this.#held.get(family)?.elements.get(set);
      for (const key of keys) {
        const have = held?.get(key);
        const want = ledger.element(set, key);
        if (have && want && sameElement(have, want)) continue;
        if (have) push(operations.deletions, set, have);
        if (want) push(operations.additions, set, want);
      }
    }
    return operations;
  }

  #note(family: Family, { deletions, additions }: OperationsOf<CompanionSet>): void {
    const { elements } = this.#held.get(family)!;
    for (const [set, list] of deletions) for (const { key } of list) elements.get(set)?.delete(key);
    for (const [set, list] of additions) {
      let held = elements.get(set);
      if (!held) elements.set(set, (held = new Map()));
      for (const element of list) held.set(element.key, element);
    }
  }

  /** The tables as text, in parts; only these elements with `own`, by family. */
  *parts(settings: NodeSettings, own?: ReadonlyMap<Family, CompanionSelection>): Generator<string> {
    const families = [...this.#held].filter(([family]) => !own || own.has(family));
    for (const [i, [family, { elements }]] of families.entries()) {
      if (i > 0) yield '\n';
      yield* companionParts(desiredCompanion(family, settings, elements), own?.get(family));
    }
  }
}

function wantedElements(ledger: Ledger): CompanionElements {
  const out: CompanionElements = new Map();
  for (const [set, keys] of ledger.all().elements) {
    out.set(set, new Map([...keys].map((key) => [key, ledger.element(set, key)!])));
  }
  return out;
}
