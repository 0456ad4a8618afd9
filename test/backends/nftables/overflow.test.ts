// Commits so big that the notifications about them overflow: what asks the kernel then must not come between a commit
// and its verdict.
import t from 'tap';
import { DriftWatch } from '../../../backends/drift-watch.ts';
import { NftablesBackend } from '../../../backends/nftables/backend.ts';
import { NftConnection } from '../../../native/nftables/connection.ts';
import { EventLog, enterNamespace, nft, nftScript } from '../../support/own-namespace.ts';
import { changeTo, endpoints, portPlan, SETTINGS, servicePlan } from '../../support/plans.ts';

if (await enterNamespace(t)) {
  t.test('big syncs while changes are looked for all the time', async (t) => {
    const events = new EventLog();
    const backend = new NftablesBackend({ events, pollMs: 1 });
    t.teardown(() => backend.close());
    await backend.start(SETTINGS, []);
    const plan = (count: number) => changeTo(servicePlan('huge', [portPlan({ cluster: endpoints(count) })]));
    for (const count of [60_000, 1, 60_000, 1]) {
      const { counts, refused } = await backend.sync([plan(count)]);
      t.ok(
        counts.transactions > 0 && counts.added + counts.deleted >= 59_999,
        `${count} endpoints: its verdict is known`,
      );
      t.same(refused, []);
    }
    t.same(events.errors, []);
    t.same(events.drifts, []);

    await backend.sync([plan(60_000)]);
    nft('delete element ip kubeplumb services { 10.96.0.1 . tcp . 80 }');
    while (events.drifts.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    t.match(nft('list map ip kubeplumb services'), '10.96.0.1', 'a foreign change among them is found');
    t.same(events.errors, []);
  });

  t.test('after an overflow the generation is asked for in turn with the commits', async (t) => {
    let inTurn = false;
    const asked: boolean[] = [];
    const watch = new DriftWatch({
      portId: 0,
      pollMs: 5,
      async exclusively(work) {
        inTurn = true;
        return work().finally(() => {
          inTurn = false;
        });
      },
      generation: () => asked.push(inTurn),
      expected: { expectedGeneration: 1 },
      concern: () => null,
      rival: '',
      repair: async () => null,
      events: new EventLog(),
    });
    t.teardown(() => watch.stop());
    watch.start();
    nftScript(['add table ip other', 'add set ip other s { type ipv4_addr; }']);
    // More than the socket can hold, without a turn of the event loop.
    for (let i = 0; i < 60; i++) {
      const addresses = Array.from({ length: 3000 }, (_, n) => `10.${i}.${n >> 8}.${n & 255}`);
      nftScript([`add element ip other s { ${addresses} }`]);
    }
    while (asked.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    t.same(asked, [true]);
  });

  t.test('questions during a commit are refused', async (t) => {
    const connection = new NftConnection();
    t.teardown(() => connection.close());
    const batch = connection.batch('big');
    batch.addTable('IPv4', '');
    for (let i = 0; i < 10_000; i++) batch.addChain('IPv4', `${'c'.repeat(100)}${i}`); // above a MiB it is sent aside
    const committed = connection.commit(batch);
    t.throws(() => connection.generation(), /while a batch is being committed/);
    t.match(await committed, { outcome: 'committed' });
    t.ok(connection.generation() > 0);
  });
}
