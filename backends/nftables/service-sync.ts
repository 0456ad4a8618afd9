// Applies changes of plans. Nothing is read: what the kernel holds is known, and only the difference is sent.
import { noCounts, type RefusedService, type SyncCounts, type SyncResult } from '../backend.ts';
import { OutcomeUnknown, TransactionRefused } from '../nft-table/committer.ts';
import { writeElements, writeStructure } from '../nft-table/table-plan.ts';
import type { PlanChange } from '../service-plan.ts';
import { newActionSteps } from './action-steps.ts';
import { operationBytes } from './chunks.ts';
import { commitElements } from './commit-elements.ts';
import type { BackendCore } from './core.ts';
import type { Reconciler } from './reconcile.ts';
import { refusedServices } from './refusal.ts';
import { LAYOUT } from './schema.ts';
import type { PreparedChange, ServiceTable } from './service-table.ts';

export class ServiceSync {
  readonly #core: BackendCore;
  readonly #reconciler: Reconciler;

  constructor(core: BackendCore, reconciler: Reconciler) {
    this.#core = core;
    this.#reconciler = reconciler;
  }

  /** @throws Error when the kernel refused for a reason that is no Service's fault. */
  async sync(changes: readonly PlanChange[]): Promise<SyncResult> {
    const counts = noCounts();
    let refused = await this.syncAndIsolate(changes, counts);
    if (refused.length > 0 && refused.length < changes.length) {
      // One that was tried apart may have wanted an address which another one had not given up yet.
      const again = changes.filter((c) => refused.some((r) => r.service === c.service && r.family === c.family));
      refused = await this.syncAndIsolate(again, counts, true);
    }
    return { counts, refused };
  }

  /** Applies changes; a Service that the kernel refuses is left out and named, the others are applied. */
  async syncAndIsolate(
    changes: readonly PlanChange[],
    counts: SyncCounts,
    verified = false,
  ): Promise<RefusedService[]> {
    if (changes.length === 0) return [];
    const prepared = this.#prepare(changes);
    const before = counts.transactions;
    try {
      await this.#commitPrepared(prepared, counts);
      return [];
    } catch (error) {
      if (error instanceof OutcomeUnknown) {
        // Believe that it was applied, then let the kernel say.
        for (const [table, change] of prepared) table.applied(change);
        await this.#reconciler.repair();
        this.#core.sweepLater();
        return [];
      }
      const guilty =
        error instanceof TransactionRefused
          ? prepared.flatMap(([t, c]) => refusedServices(t, c.states, error.refusals))
          : [];
      this.#drop(prepared);
      if (!(error instanceof TransactionRefused)) throw error;
      const partly = counts.transactions > before;
      const retry = error.suggestsDrift && !verified;
      if (partly || retry) {
        const drift = await this.#reconciler.repair();
        if (drift && !partly) this.#core.events.drift(drift);
      }
      if (retry) return this.syncAndIsolate(changes, counts, true);
      if (guilty.length > 0) {
        const rest = changes.filter((c) => !guilty.some((g) => g.service === c.service && g.family === c.family));
        return [...guilty, ...(await this.syncAndIsolate(rest, counts, true))];
      }
      if (changes.length > 1) return this.#halves(changes, counts);
      const { service, family } = changes[0]!;
      return [{ service, family, message: error.message }];
    }
  }

  async #halves(changes: readonly PlanChange[], counts: SyncCounts): Promise<RefusedService[]> {
    const middle = changes.length >> 1;
    const first = await this.syncAndIsolate(changes.slice(0, middle), counts, true);
    return [...first, ...(await this.syncAndIsolate(changes.slice(middle), counts, true))];
  }

  #prepare(changes: readonly PlanChange[]): [ServiceTable, PreparedChange][] {
    return [...this.#core.tables.values()].flatMap((table): [ServiceTable, PreparedChange][] => {
      const own = changes.filter((c) => c.family === table.family);
      return own.length === 0 ? [] : [[table, table.prepare(own)]];
    });
  }

  #drop(prepared: readonly [ServiceTable, PreparedChange][]): void {
    for (const [table, change] of prepared) table.dropped(change);
  }

  async #commitPrepared(prepared: readonly [ServiceTable, PreparedChange][], counts: SyncCounts): Promise<void> {
    // A packet takes its rules when it enters a hook, but looks elements up anew: a chain must exist one transaction
    // before the first word that leads to it.
    const chains = prepared.flatMap(([table, { newActions }]) =>
      newActions.length === 0
        ? []
        : [newActionSteps(table.family, this.#core.settings, newActions, table.actionElements(newActions))],
    );
    if (chains.length > 0) {
      await this.#core.committer.commit(counts, (batch) => {
        for (const steps of chains) {
          writeStructure(batch, steps);
          writeElements(batch, steps);
        }
      });
      for (const [table, { newActions }] of prepared) table.haveActions(newActions);
    }
    const size = prepared.reduce((sum, [, p]) => sum + operationBytes(p.reduced.now), 0);
    if (size <= this.#core.committer.limit) {
      await this.#core.committer.commit(counts, (batch) => {
        for (const [{ family }, { reduced }] of prepared) {
          writeElements(batch, { layout: LAYOUT, family, elements: reduced.now });
        }
      });
    } else {
      for (const [table, { reduced }] of prepared)
        await commitElements(this.#core.committer, table.family, reduced.now, counts);
    }
    for (const [table, change] of prepared) table.applied(change);
    if (prepared.some(([, { reduced }]) => reduced.later.size > 0)) this.#core.sweepLater();
  }
}
