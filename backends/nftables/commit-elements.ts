// Element operations of any size, as transactions.
import type { Family } from '../../native/ip.ts';
import type { SyncCounts } from '../backend.ts';
import type { Committer } from '../nft-table/committer.ts';
import { frontendKeyLength } from '../nft-table/keys.ts';
import { writeElementsInTurns } from '../nft-table/table-plan.ts';
import type { Operations } from './changes.ts';
import { chunks, operationBytes } from './chunks.ts';
import { LAYOUT } from './schema.ts';

/** Commits element operations, in several consistent transactions if they do not fit one. */
export async function commitElements(
  committer: Committer,
  family: Family,
  operations: Operations,
  counts: SyncCounts,
): Promise<void> {
  const { limit } = committer;
  const parts =
    operationBytes(operations) <= limit ? [operations] : chunks(operations, limit, frontendKeyLength(family));
  for (const elements of parts) {
    await committer.commit(counts, (batch) => writeElementsInTurns(batch, { layout: LAYOUT, family, elements }));
  }
}
