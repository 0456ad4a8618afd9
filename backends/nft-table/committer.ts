// Commits transactions one at a time and keeps the books: what was sent, and which generation the ruleset must have.
import { NetlinkSocket } from '../../native/netlink/socket.ts';
import type { Batch } from '../../native/nftables/batch.ts';
import type { NftConnection } from '../../native/nftables/connection.ts';
import type { Refusal } from '../../native/nftables/results.ts';
import type { SyncCounts } from '../backend.ts';

/** What others own is refused in every part; the first say enough. */
const TOLD_REFUSALS = 10;

/** The kernel refused a transaction; nothing of it was applied. */
export class TransactionRefused extends Error {
  readonly refusals: readonly Refusal[];
  constructor(refusals: readonly Refusal[]) {
    const more = refusals.length - TOLD_REFUSALS;
    const told = refusals.slice(0, TOLD_REFUSALS).map((r) => r.message);
    super(`the kernel refused a transaction: ${told.join('; ')}${more > 0 ? ` and ${more} more` : ''}`);
    this.name = 'TransactionRefused';
    this.refusals = refusals;
  }

  /** The refusal may come from the kernel holding other objects than we believe. */
  get suggestsDrift(): boolean {
    return this.refusals.some((r) => ['ENOENT', 'EEXIST', 'EBUSY'].includes(r.code));
  }
}

/** The ruleset changed since it was read. */
export class RulesetChanged extends Error {
  constructor() {
    super('the ruleset changed while a transaction was being prepared');
    this.name = 'RulesetChanged';
  }
}

/** Replies were lost: the transaction may or may not have been applied. */
export class OutcomeUnknown extends Error {
  constructor() {
    super('the reply of the kernel to a transaction was lost');
    this.name = 'OutcomeUnknown';
  }
}

const FORCED_LIMIT = 48 << 20;

export class Committer {
  readonly #nft: NftConnection;
  readonly #table: string;
  /** The generation that only our own commits lead to. */
  expectedGeneration = 0;

  /** Bytes that one transaction may have. */
  readonly limit: number;

  /** @param table The table that batches are about. */
  constructor(nft: NftConnection, table: string, limitBytes?: number) {
    this.#nft = nft;
    this.#table = table;
    this.limit = limitBytes ?? (nft.socket.sendForced ? FORCED_LIMIT : NetlinkSocket.sendLimit);
  }

  /**
   * Commits what `write` puts into a batch; with `generation`, only if nothing changed since.
   * @throws TransactionRefused, RulesetChanged, OutcomeUnknown
   */
  async commit(counts: SyncCounts, write: (batch: Batch) => void | Promise<void>, generation?: number): Promise<void> {
    const batch = this.#nft.batch(this.#table, generation);
    await write(batch);
    if (batch.empty) return;
    const bytes = batch.bytes;
    const result = await this.#nft.commit(batch);
    if (result.outcome === 'refused') {
      if (result.refusals.some((r) => r.code === 'ERESTART')) throw new RulesetChanged();
      throw new TransactionRefused(result.refusals);
    }
    if (result.outcome === 'unknown') throw new OutcomeUnknown();
    this.expectedGeneration++;
    counts.added += batch.counts.added;
    counts.deleted += batch.counts.deleted;
    counts.objects += batch.counts.objects;
    counts.transactions++;
    counts.bytes += bytes;
  }
}
