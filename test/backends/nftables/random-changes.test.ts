// Random changes of plans against a table in memory that refuses what the kernel would: the operations always fit, lead
// to what a fresh start would write, and a restart finds nothing to do.
import t from 'tap';
import { asKernelTable, planTable } from '../../../backends/nft-table/table-plan.ts';
import type { Elements } from '../../../backends/nftables/changes.ts';
import { desiredTable } from '../../../backends/nftables/desired.ts';
import { ServiceTable } from '../../../backends/nftables/service-table.ts';
import type { PlanChange } from '../../../backends/service-plan.ts';
import { FAMILIES } from '../../../native/ip.ts';
import {
  changeTo,
  endpoint,
  endpoints,
  PlanWorld,
  portPlan,
  SETTINGS,
  seededRandom,
  seedOfRun,
  servicePlan,
} from '../../support/plans.ts';
import { elementLines, TableModel } from '../../support/table-model.ts';

const seed = seedOfRun();
t.comment(`SEED=${seed}`);

/** Sets that do not hold what Services need. */
const APART = ['actions', 'local-actions', 'nodeport-ips'] as const;

/** A table and the kernel's copy of its elements. */
class Pair {
  readonly table: ServiceTable;
  readonly kernel = new TableModel();

  constructor(table: ServiceTable) {
    this.table = table;
  }

  /** As the backend does: commit, remember; deferred deletions follow with `sweep`. */
  sync(changes: readonly PlanChange[]): void {
    const own = changes.filter((change) => change.family === this.table.family);
    const prepared = this.table.prepare(own);
    this.kernel.apply(prepared.reduced.now);
    this.table.haveActions(prepared.newActions);
    this.table.applied(prepared);
  }

  sweep(): void {
    const deletions = new Map([...this.table.leftovers].map(([set, elements]) => [set, [...elements.values()]]));
    this.kernel.apply({ deletions, additions: new Map() });
    this.table.leftovers.clear();
  }

  /** The elements as they shall be. */
  wanted(): Elements {
    return desiredTable(SETTINGS, this.table).elements;
  }
}

for (const family of FAMILIES) {
  t.test(`${family}: operations fit and lead to the desired table`, async (t) => {
    const random = seededRandom(seed);
    const world = new PlanWorld({ random, families: [family] });
    let pair = new Pair(new ServiceTable(family));
    for (let round = 0; round < 500; round++) {
      const changes = world.step();
      try {
        pair.sync(changes);
        if (random(3) > 0) pair.sweep();
      } catch (error) {
        t.fail(`round ${round}: ${(error as Error).message}`);
        return;
      }
      if (round % 5 !== 0) continue;
      if (pair.table.leftovers.size === 0) {
        const actual = pair.kernel.lines();
        const wanted = elementLines(pair.wanted(), APART);
        if (actual.join() !== wanted.join()) {
          t.same(actual, wanted, `round ${round}`);
          return;
        }
      }
      if (round % 20 !== 0) continue;
      pair.sweep();
      // A restart reads all of it back and finds nothing to do.
      const have: Elements = new Map([...pair.kernel.elements]);
      for (const set of APART) have.set(set, pair.wanted().get(set)!);
      const kernelTable = asKernelTable({ ...desiredTable(SETTINGS, pair.table), elements: have });
      const restarted = new ServiceTable(family);
      restarted.haveActions(pair.table.actions.values());
      restarted.adoptActions(have);
      for (const plan of world.plans.values()) restarted.adopt(plan, have);
      const { elements, newChains, flushChains, oldChains } = planTable(kernelTable, desiredTable(SETTINGS, restarted));
      const left = [...elements.deletions, ...elements.additions];
      if (left.length > 0) {
        t.same(left, [], `round ${round}: restart`);
        return;
      }
      t.same([newChains, flushChains, oldChains], [[], [], []], `round ${round}: chains`);
      const { kernel } = pair;
      pair = Object.assign(new Pair(restarted), { kernel });
    }
    t.ok(pair.kernel.size > 0);
  });
}

t.test('what was refused leaves no trace', async (t) => {
  const random = seededRandom(seed + 1);
  const world = new PlanWorld({ random, families: ['IPv4'] });
  const pair = new Pair(new ServiceTable('IPv4'));
  for (let round = 0; round < 100; round++) {
    const changes = world.step();
    const before = elementLines(pair.wanted()).join();
    pair.table.dropped(pair.table.prepare(changes));
    if (elementLines(pair.wanted()).join() !== before) t.fail(`round ${round}`);
    pair.sync(changes);
    pair.sweep();
  }
  t.same(pair.kernel.lines(), elementLines(pair.wanted(), APART));
});

t.test('the last change of a Service counts', async (t) => {
  const pair = new Pair(new ServiceTable('IPv4'));
  const plan = (count: number) => changeTo(servicePlan('web', [portPlan({ cluster: endpoints(count) })]));
  pair.sync([plan(3), { ...plan(1), plan: null }, plan(2)]);
  t.equal(pair.kernel.elements.get('endpoints')!.size, 2);
});

t.test('a freed affinity number is given out last', async (t) => {
  const pair = new Pair(new ServiceTable('IPv4'));
  const plan = (ips: string[]) =>
    changeTo(servicePlan('web', [portPlan({ cluster: ips.map((ip) => endpoint(ip)), affinitySeconds: 300 })]));
  const slots = (): Map<string, number> => new Map(pair.table.services.get('shop/web')!.ports[0]!.affinity!.slots);
  pair.sync([plan(['10.128.0.1', '10.128.0.2'])]);
  const first = slots();
  pair.sync([plan(['10.128.0.1'])]);
  pair.sync([plan(['10.128.0.1', '10.128.0.3'])]);
  const second = slots();
  t.same([...first.values()], [1, 2]);
  t.same([...second.values()], [1, 3], 'clients of the one that left are not sent to the one that came');
  pair.sync([{ ...plan([]), plan: null }]);
  pair.sync([plan(['10.128.0.1'])]);
  t.equal(pair.table.services.get('shop/web')!.ports[0]!.affinity!.sid, 2, 'nor those of a Service that went');
});

t.test('a restart keeps affinity numbers, whatever the order of the plans', async (t) => {
  const frontends = (n: number) => [{ kind: 'clusterIP', ip: `10.96.0.${n}`, port: 80 }] as const;
  const idle = servicePlan('idle', [portPlan({ frontends: frontends(1), affinitySeconds: 300 })]);
  const busy = servicePlan('busy', [
    portPlan({ frontends: frontends(2), cluster: endpoints(2), affinitySeconds: 300 }),
  ]);
  const pair = new Pair(new ServiceTable('IPv4'));
  pair.sync([changeTo(busy), changeTo(idle)]);
  const restarted = new ServiceTable('IPv4');
  restarted.adoptActions(pair.kernel.elements);
  for (const plan of [idle, busy]) restarted.adopt(plan, pair.kernel.elements);
  const sid = (table: ServiceTable) => table.services.get('shop/busy')!.ports[0]!.affinity!.sid;
  t.equal(sid(restarted), sid(pair.table), 'a Service without endpoints must not take it');
});

t.test('policies switched there and back before the old elements are gone', async (t) => {
  const pair = new Pair(new ServiceTable('IPv4'));
  const local = [endpoint('10.128.4.7', 8080, true)];
  const web = (internalLocal: boolean, count = 2) =>
    changeTo(servicePlan('web', [portPlan({ cluster: [...local, ...endpoints(count)], local, internalLocal })]));
  for (const change of [web(false), web(true), web(false), web(true), web(false, 3)]) pair.sync([change]);
  pair.sweep();
  t.same(pair.kernel.lines(), elementLines(pair.wanted(), APART));
});
