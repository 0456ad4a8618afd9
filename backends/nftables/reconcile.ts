// Start and repair: the kernel is read, compared with what it shall hold, and sent the difference.

import { Breather } from '../../native/breather.ts';
import { FAMILIES } from '../../native/ip.ts';
import { type Drift, noCounts, type SyncCounts } from '../backend.ts';
import { OutcomeUnknown, RulesetChanged } from '../nft-table/committer.ts';
import { addMissing } from '../nft-table/operations.ts';
import {
  describeSteps,
  hasStructure,
  noSteps,
  planTable,
  type TableSteps,
  writeElements,
  writeElementsInTurns,
  writeRemovals,
  writeStructure,
} from '../nft-table/table-plan.ts';
import type { ServicePlan } from '../service-plan.ts';
import { actionOperations, knownActionChains } from './action-steps.ts';
import type { Elements } from './changes.ts';
import { operationBytes } from './chunks.ts';
import { commitElements } from './commit-elements.ts';
import type { BackendCore } from './core.ts';
import { desiredTable, serviceElementsInTurns } from './desired.ts';
import { type KernelState, readKernel } from './read.ts';
import { type SetName, TABLE } from './schema.ts';
import { ServiceTable } from './service-table.ts';

const ATTEMPTS = 5;
const noElements: Elements = new Map();

export class Reconciler {
  readonly #core: BackendCore;

  constructor(core: BackendCore) {
    this.#core = core;
  }

  /**
   * Brings the kernel from what it holds to the tables of these plans. A first start that does not fit one transaction
   * gets the fixed objects only.
   * @returns whether the plans are applied; else they are still to be synced.
   * @throws TransactionRefused, RulesetChanged, OutcomeUnknown
   */
  async startFrom(kernel: KernelState, plans: readonly ServicePlan[], counts: SyncCounts): Promise<boolean> {
    this.#core.tables.clear();
    const steps: TableSteps<SetName>[] = [];
    const breather = new Breather();
    for (const family of FAMILIES) {
      if (!this.#core.settings.families[family]) continue;
      const table = new ServiceTable(family);
      this.#core.tables.set(family, table);
      const have = kernel.tables.get(family) ?? null;
      const intact = have !== null && have.damaged === null ? have : null;
      if (intact) table.haveActions(knownActionChains(intact));
      table.adoptActions(intact?.elements ?? noElements);
      for (const plan of plans) {
        if (plan.family === family) table.adopt(plan, intact?.elements ?? noElements);
        if (breather.due) await breather.rest();
      }
      steps.push(planTable(have, desiredTable(this.#core.settings, table, await serviceElementsInTurns(table))));
    }
    const fresh = steps.every((s) => s.replaceTable !== 'none');
    const bytes = steps.reduce((sum, s) => sum + operationBytes(s.elements), 0);
    if (fresh && bytes > this.#core.committer.limit) {
      await this.startEmpty(counts);
      return false;
    }
    await this.#apply(steps, counts, kernel.generation ?? undefined);
    return true;
  }

  /** Makes tables without Services, in place of those that exist. */
  async startEmpty(counts: SyncCounts): Promise<void> {
    const present = new Set(this.#core.nft.tables().flatMap((t) => (t.name === TABLE ? [t.family] : [])));
    const steps: TableSteps<SetName>[] = [];
    for (const family of this.#core.tables.keys()) {
      const table = new ServiceTable(family);
      this.#core.tables.set(family, table);
      const step = planTable(null, desiredTable(this.#core.settings, table));
      steps.push(present.has(family) ? { ...step, replaceTable: 'recreate' } : step);
    }
    await this.#apply(steps, counts, undefined);
  }

  /** Sends steps: all in one transaction if there is no table yet, else chains before the elements that lead to them. */
  async #apply(
    steps: readonly TableSteps<SetName>[],
    counts: SyncCounts,
    generation: number | undefined,
  ): Promise<void> {
    const commit = this.#core.committer;
    const bytes = steps.reduce((sum, s) => sum + operationBytes(s.elements), 0);
    const together = bytes <= commit.limit && steps.every((s) => s.replaceTable !== 'none' || !hasStructure(s));
    if (together) {
      await commit.commit(
        counts,
        async (batch) => {
          for (const s of steps) writeStructure(batch, s);
          for (const s of steps) await writeElementsInTurns(batch, s);
        },
        generation,
      );
      return;
    }
    await commit.commit(
      counts,
      (batch) => {
        for (const s of steps) writeStructure(batch, s);
        for (const s of steps) writeElements(batch, { ...s, elements: actionOperations(s.elements, true) });
      },
      generation,
    );
    for (const s of steps) await commitElements(commit, s.family, actionOperations(s.elements, false), counts);
    await commit.commit(counts, (batch) => {
      for (const s of steps) writeRemovals(batch, s);
    });
  }

  /** Reads the kernel, sends what is missing, deletes what should not be there. */
  async repair(): Promise<Drift | null> {
    for (let attempt = 1; ; attempt++) {
      const kernel = await readKernel(this.#core.nft, [...this.#core.tables.keys()]);
      const steps: TableSteps<SetName>[] = [];
      for (const [family, table] of this.#core.tables) {
        const elements = await serviceElementsInTurns(table);
        addMissing(elements, table.leftovers);
        const step = planTable(kernel.tables.get(family) ?? null, desiredTable(this.#core.settings, table, elements));
        if (!noSteps(step)) steps.push(step);
      }
      if (steps.length === 0) return null;
      const counts = noCounts();
      try {
        await this.#apply(steps, counts, kernel.generation ?? undefined);
      } catch (error) {
        if (!(error instanceof RulesetChanged || error instanceof OutcomeUnknown) || attempt >= ATTEMPTS) throw error;
        continue;
      }
      return { description: steps.map(describeSteps).join('; '), culprit: null, counts };
    }
  }
}
