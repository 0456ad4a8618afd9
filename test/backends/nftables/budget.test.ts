// Budgets: what a change may cost in element operations, and that Services never add chains, sets or rules.
import t from 'tap';
import { asKernelTable, planTable } from '../../../backends/nft-table/table-plan.ts';
import { desiredTable } from '../../../backends/nftables/desired.ts';
import { tablesOf } from '../../../backends/nftables/render.ts';
import type { PreparedChange, ServiceTable } from '../../../backends/nftables/service-table.ts';
import type { Endpoint, ServicePlan, ServicePortPlan } from '../../../backends/service-plan.ts';
import { changeTo, endpoint, endpoints, portPlan, SETTINGS, servicePlan } from '../../support/plans.ts';

interface Cost {
  deletions: number;
  additions: number;
  later: number;
  chains: number;
}

function cost({ reduced, newActions }: PreparedChange): Cost {
  const count = (lists: ReadonlyMap<string, readonly unknown[]>): number =>
    [...lists.values()].reduce((sum, list) => sum + list.length, 0);
  const { now, later } = reduced;
  return {
    deletions: count(now.deletions),
    additions: count(now.additions),
    later: count(later),
    chains: newActions.length,
  };
}

function tableWith(...plans: ServicePlan[]): ServiceTable {
  const table = tablesOf(SETTINGS, plans)[0]!;
  desiredTable(SETTINGS, table);
  return table;
}

/** Cost of the change from one plan of a port to another. */
function between(before: Partial<ServicePortPlan>, after: Partial<ServicePortPlan>): Cost {
  const table = tableWith(servicePlan('web', [portPlan(before)]));
  return cost(table.prepare([changeTo(servicePlan('web', [portPlan(after)]))]));
}

const FIVE = endpoints(5);
const without = (list: readonly Endpoint[], index: number): Endpoint[] => list.filter((_, i) => i !== index);
const NEW = endpoint('10.128.9.9');

t.test('one frontend', async (t) => {
  const rows: [string, Endpoint[], number, number][] = [
    ['endpoint replaced', [...without(FIVE, 2), NEW], 1, 1],
    ['endpoint added', [...FIVE, NEW], 1, 2],
    ['last endpoint of the order removed', without(FIVE, 4), 2, 1],
    ['endpoint removed in the middle', without(FIVE, 1), 3, 2],
    ['nothing', FIVE, 0, 0],
  ];
  for (const [name, after, deletions, additions] of rows) {
    t.same(between({ cluster: FIVE }, { cluster: after }), { deletions, additions, later: 0, chains: 0 }, name);
  }
  t.same(between({}, { cluster: [NEW] }), { deletions: 1, additions: 2, later: 0, chains: 0 }, 'first endpoint');
  t.same(between({ cluster: [NEW] }, {}), { deletions: 2, additions: 1, later: 0, chains: 0 }, 'last endpoint');
});

t.test('one frontend with session affinity', async (t) => {
  const affinitySeconds = 300;
  const rows: [string, Endpoint[], number, number][] = [
    ['endpoint replaced', [...without(FIVE, 2), NEW], 2, 2],
    ['last endpoint of the order removed', without(FIVE, 4), 3, 1],
    ['endpoint removed in the middle', without(FIVE, 1), 4, 2],
  ];
  for (const [name, after, deletions, additions] of rows) {
    const found = between({ cluster: FIVE, affinitySeconds }, { cluster: after, affinitySeconds });
    t.same({ ...found, chains: 0 }, { deletions, additions, later: 0, chains: 0 }, name);
  }
  const added = between({ cluster: FIVE, affinitySeconds }, { cluster: [...FIVE, NEW], affinitySeconds });
  t.same(added, { deletions: 1, additions: 3, later: 0, chains: 1 }, 'endpoint added; the chain for six is new');
});

t.test('each frontend pays for itself', async (t) => {
  const frontends = [
    { kind: 'clusterIP', ip: '10.96.0.1', port: 80 },
    { kind: 'loadBalancer', ip: '198.18.0.10', port: 80 },
    { kind: 'nodePort', ip: null, port: 30080 },
  ] as const;
  const replaced = between({ frontends, cluster: FIVE }, { frontends, cluster: [...without(FIVE, 0), NEW] });
  t.same(replaced, { deletions: 3, additions: 3, later: 0, chains: 0 });
});

t.test('a Service that comes and goes', async (t) => {
  const table = tableWith();
  const plan = servicePlan('web', [portPlan({ cluster: FIVE })]);
  const coming = table.prepare([changeTo(plan)]);
  t.same(cost(coming), { deletions: 0, additions: 7, later: 0, chains: 0 });
  table.applied(coming);
  t.same(cost(table.prepare([{ ...changeTo(plan), plan: null }])), { deletions: 7, additions: 0, later: 0, chains: 0 });
});

t.test('policies switched: what the old chain reads goes later', async (t) => {
  const local = endpoint('10.128.4.7', 8080, true);
  const fields = { cluster: [...FIVE, local], local: [local] };
  t.same(between(fields, { ...fields, internalLocal: true }), { deletions: 1, additions: 2, later: 6, chains: 0 });
  t.same(between(fields, { ...fields, affinitySeconds: 60 }), { deletions: 1, additions: 14, later: 6, chains: 1 });
});

t.test('chains, sets and rules do not depend on the number of Services', async (t) => {
  const objects = (services: number) => {
    const plans = Array.from({ length: services }, (_, i) =>
      servicePlan(`svc-${i}`, [
        portPlan({
          frontends: [
            { kind: 'clusterIP', ip: `10.96.${i >> 8}.${i & 255}`, port: 80 },
            { kind: 'loadBalancer', ip: `198.18.${i >> 8}.${i & 255}`, port: 80 },
            { kind: 'nodePort', ip: null, port: 30_000 + i },
          ],
          cluster: endpoints(1 + (i % 3), 10 * i),
          affinitySeconds: i % 2 ? 300 : null,
          sourceRanges: ['203.0.113.0/24'],
        }),
      ]),
    );
    const desired = desiredTable(SETTINGS, tableWith(...plans));
    const { newChains, newSets, newRules } = planTable(null, desired);
    return [newChains.length, newSets.length, newRules.reduce((sum, [, rules]) => sum + rules.length, 0)];
  };
  t.same(objects(1000), objects(10));
  const [chains, sets, rules] = objects(10);
  t.equal(chains, 83);
  t.equal(sets, 21);
  t.equal(rules, 256);
});

t.test('an update touches no other Service', async (t) => {
  const table = tableWith(
    ...Array.from({ length: 50 }, (_, i) =>
      servicePlan(`svc-${i}`, [
        portPlan({ frontends: [{ kind: 'clusterIP', ip: `10.96.1.${i}`, port: 80 }], cluster: FIVE }),
      ]),
    ),
  );
  const frontends = [{ kind: 'clusterIP', ip: '10.96.1.7', port: 80 }] as const;
  const change = table.prepare([
    changeTo(servicePlan('svc-7', [portPlan({ frontends, cluster: [...without(FIVE, 0), NEW] })])),
  ]);
  t.same(cost(change), { deletions: 1, additions: 1, later: 0, chains: 0 });
});

t.test('a table that is as it shall be costs nothing', async (t) => {
  const table = tableWith(servicePlan('web', [portPlan({ cluster: FIVE, affinitySeconds: 300 })]));
  const desired = desiredTable(SETTINGS, table);
  const steps = planTable(asKernelTable(desired), desired);
  t.equal(steps.replaceTable, 'none');
  const { newSets, newChains, flushChains, newRules, oldChains, oldSets, elements } = steps;
  t.same([newSets, newChains, flushChains, newRules, oldChains, oldSets], [[], [], [], [], [], []]);
  t.equal(elements.deletions.size + elements.additions.size, 0);
});
