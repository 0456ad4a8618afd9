// API servers that are killed and forget, watches that are cut every second, bookmarks that stop: the short version of
// `npm run soak -- --faults`, but for its memory.
import t from 'tap';
import { runFaults } from '../../bench/faults.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { scaled } from '../support/time-scale.ts';

const missing = await namespacesMissing();

t.test('no change is missed, no list is asked for without need', { skip: missing ?? false }, async (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  t.comment(`SEED=${seed}`);
  const criteria = await runFaults({
    seconds: scaled(21),
    services: 60,
    changesPerSecond: 20,
    killEveryMs: scaled(6000),
    cutEveryMs: scaled(1600),
    mode: 'nftables',
    seed,
    bundled: false,
    say: (line) => t.comment(line),
  });
  for (const { what, holds, figures } of criteria) {
    // So short a time tells nothing about memory.
    if (what !== 'memory is flat') t.ok(holds, `${what}: ${figures}`);
  }
  t.ok(criteria.length >= 11, `${criteria.length} criteria`);
});
