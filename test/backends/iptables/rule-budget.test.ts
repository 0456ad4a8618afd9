// How many rules and chains each kind of Service costs: fails when one gets dearer.
import t from 'tap';
import { tablesOf, tablesOfService } from '../../../backends/iptables/ruleset.ts';
import { LOCALHOST_COUNTER, renderService } from '../../../backends/iptables/service-rules.ts';
import { endpoints, portPlan, SETTINGS, servicePlan } from '../../support/plans.ts';
import { sixtyRules } from '../../support/sixty-rules.ts';

/** Own chains; rules in them; rules in chains all Services share. */
type Cost = readonly [chains: number, ownRules: number, sharedRules: number];

const BUDGET: Readonly<Record<string, Cost>> = {
  // Two rules for each endpoint, one for each choice, one to masquerade, one to dispatch.
  'cluster-ip-one': [2, 4, 1],
  'cluster-ip': [3, 7, 1],
  'cluster-ip-many': [13, 37, 1],
  'two-ports': [6, 14, 2],
  empty: [0, 0, 1],
  'internal-local': [2, 4, 1],
  'internal-local-remote': [0, 0, 1],
  // And one more for each endpoint to look the client up.
  affinity: [4, 13, 1],
  'node-port': [4, 9, 3],
  'node-port-local': [6, 16, 3],
  'node-port-local-remote': [4, 10, 4],
  'node-port-empty': [0, 0, 2],
  'external-ip': [4, 9, 2],
  'load-balancer': [4, 9, 4],
  'load-balancer-local': [10, 24, 10],
  'load-balancer-empty': [0, 0, 3],
  'source-ranges': [5, 12, 5],
  'source-ranges-node': [5, 15, 7],
  'load-balancer-everything': [6, 21, 9],
};

t.test('IPv4, loopback node ports counted', async (t) => {
  const { plans, options } = await sixtyRules('default', 'IPv4');
  for (const [name, [chains, ownRules, sharedRules]] of Object.entries(BUDGET)) {
    const plan = plans.find((p) => p.name === name && p.family === 'IPv4')!;
    const rules = renderService(plan, { ...options, nfacct: [LOCALHOST_COUNTER], largeCluster: false });
    const shared = rules.shared.flatMap((part) => part.rules);
    t.same(
      [rules.own.size, [...rules.own.values()].flat().length, shared.length],
      [chains, ownRules, sharedRules],
      name,
    );
    const { nat, filter, mangle } = tablesOfService(rules);
    const all = [...nat.values(), ...filter.values(), ...mangle.values()].flat();
    t.equal(all.length, ownRules + sharedRules, `${name}: nothing is missing when it is shown alone`);
  }
});

t.test('time for 1,000 Services of 5 endpoints', async (t) => {
  const plans = Array.from({ length: 1000 }, (_, i) => {
    const frontends = [{ kind: 'clusterIP', ip: `10.96.${i >> 8}.${i & 255}`, port: 80 }] as const;
    return servicePlan(`service-${i}`, [portPlan({ frontends, cluster: endpoints(5, i * 5) })]);
  });
  const start = performance.now();
  const { nat } = tablesOf(plans, { settings: SETTINGS, family: 'IPv4', nfacct: [], randomFully: true });
  const tookMs = performance.now() - start;
  t.equal(nat.size, 6000 + 8, 'KUBE-SVC and five KUBE-SEP each; three built-in and five fixed chains');
  // A twentieth of it is usual.
  t.ok(tookMs < 1000, `${tookMs} ms`);
});
