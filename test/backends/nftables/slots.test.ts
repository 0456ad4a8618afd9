// Indices of endpoints: every change moves as few as can be.
import t from 'tap';
import { assignSlots, NumberPool } from '../../../backends/nftables/slots.ts';
import { seededRandom, seedOfRun } from '../../support/plans.ts';

t.test('examples', async (t) => {
  const cases: [string, string, string, string][] = [
    ['nothing changes', 'abc', 'cab', 'abc'],
    ['first endpoints', '', 'abc', 'abc'],
    ['the new one takes the place of the one that left', 'abc', 'axc', 'axc'],
    ['a new one is appended', 'abc', 'abcd', 'abcd'],
    ['the last one fills a hole', 'abcd', 'acd', 'adc'],
    ['the last one leaves', 'abc', 'ab', 'ab'],
    ['all leave', 'abc', '', ''],
    ['all are replaced by fewer', 'abc', 'xy', 'xy'],
    ['holes at both ends', 'abcde', 'bd', 'db'],
  ];
  for (const [name, previous, wanted, expected] of cases) {
    t.equal(assignSlots([...previous], [...wanted]).join(''), expected, name);
  }
});

t.test('an unchanged assignment is the same object', async (t) => {
  const previous = ['a', 'b'];
  t.equal(assignSlots(previous, ['b', 'a']), previous);
});

t.test('random changes', async (t) => {
  const seed = seedOfRun();
  t.comment(`SEED=${seed}`);
  const random = seededRandom(seed);
  let previous: readonly string[] = [];
  for (let round = 0; round < 3000; round++) {
    const size = random(1 + random(30));
    const wanted = new Set<string>();
    // Mostly what was there.
    for (const endpoint of previous) if (random(5) > 0) wanted.add(endpoint);
    for (let i = 0; i < size; i++) wanted.add(`e${random(60)}`);
    const next = assignSlots(previous, [...wanted]);
    if ([...next].sort().join() !== [...wanted].sort().join()) t.fail(`round ${round}: ${next} for ${[...wanted]}`);
    // An index must change when its endpoint leaves or when it comes or goes itself; no other one may.
    const changed = Math.max(previous.length, next.length);
    let different = 0;
    for (let i = 0; i < changed; i++) if (previous[i] !== next[i]) different++;
    const holes = previous.filter((endpoint, i) => i < next.length && !wanted.has(endpoint)).length;
    const least = holes + Math.abs(previous.length - next.length);
    if (different !== least) t.equal(different, least, `round ${round}: ${previous} → ${next}`);
    previous = next;
  }
  t.pass();
});

t.test('numbers are given out again as late as possible', async (t) => {
  const pool = new NumberPool(4);
  t.same([pool.take(), pool.take(), pool.take()], [1, 2, 3]);
  pool.release(1);
  t.equal(pool.take(), 4);
  t.equal(pool.take(), 1);
  t.equal(pool.take(), null);
  pool.release(3);
  t.equal(pool.take(), 3);
});

t.test('numbers found in the kernel', async (t) => {
  const pool = new NumberPool(3);
  t.ok(pool.claim(1));
  t.notOk(pool.claim(1), 'twice');
  t.notOk(pool.claim(0), 'the number of nobody');
  t.notOk(pool.claim(4), 'too large');
  t.same([pool.take(), pool.take(), pool.take()], [2, 3, null]);
});

t.test('new numbers behind those in use', async (t) => {
  const pool = new NumberPool(3);
  pool.skip(2);
  pool.skip(1);
  t.same([pool.take(), pool.take(), pool.take(), pool.take()], [3, 1, 2, null]);
});
