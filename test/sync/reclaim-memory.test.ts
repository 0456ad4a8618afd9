// After a big sync the heap shrinks, and the young generation does not grow again.
import { getHeapSpaceStatistics } from 'node:v8';
import t from 'tap';
import { reclaimMemory } from '../../agent/sync/reclaim-memory.ts';

const MIB = 2 ** 20;
const youngMiB = (): number => getHeapSpaceStatistics().find((s) => s.space_name === 'new_space')!.space_size / MIB;

/** Allocates much of which some stays for a while, as events and plans do. */
function work(): number {
  let kept: object[] = [];
  for (let i = 0; i < 400_000; i++) {
    kept.push(new Array(50).fill(i));
    if (kept.length > 20_000) kept = kept.slice(10_000);
  }
  return kept.length;
}

t.test('the young generation', async (t) => {
  work();
  const before = youngMiB();
  t.ok(before >= 16, `grows without limits worth mentioning: ${before} MiB`);
  const heap = process.memoryUsage().heapTotal;
  reclaimMemory();
  t.ok(process.memoryUsage().heapTotal < heap - 8 * MIB, 'the heap shrinks');
  work();
  const after = youngMiB();
  t.ok(after <= 4, `stays small from then on: ${after} MiB`);
});
