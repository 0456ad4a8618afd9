// Each check fails where nobody serves Services: none of them can pass by accident. And what a cluster cannot do is skipped aloud.
import t from 'tap';
import { CHECKS } from '../../e2e/checks/list.ts';
import type { ApiObject, Capability, Cluster, DialResult, PodSpec } from '../../e2e/cluster/cluster.ts';
import { resultsText, runChecks } from '../../e2e/run-checks.ts';

/** A cluster where connections come to nothing, or to strangers. */
function brokenCluster(result: DialResult, missing: (capability: Capability) => string | null = () => null): Cluster {
  const nothing = async (): Promise<void> => {};
  return {
    name: 'broken',
    namespace: 'e2e',
    nodes: [
      { name: 'node-1', ips: ['192.0.2.1'] },
      { name: 'node-2', ips: ['192.0.2.2'] },
    ],
    settleMs: 0,
    checkLimitMs: 10_000,
    mode: 'nftables',
    missing,
    async startPods(specs: readonly PodSpec[]) {
      return specs.map(({ name, node }, i) => ({ name, node, ips: [`10.0.0.${i + 1}`] }));
    },
    outside: async () => ({ name: 'outside', kind: 'outside', node: null, ips: ['198.51.100.1'] }),
    dial: async () => result,
    async apply(object: ApiObject) {
      const { ports, ...spec } = object.spec as { ports: { name: string }[] };
      const numbered = ports.map((port, i) => ({ ...port, nodePort: 30_000 + i }));
      return { ...object, spec: { ...spec, clusterIPs: ['10.96.0.1'], healthCheckNodePort: 30_100, ports: numbered } };
    },
    dump: async () => 'rules of ports 54321 and 54322',
    stopPods: nothing,
    setIngress: nothing,
    remove: nothing,
    startDeployment: nothing,
    rollout: nothing,
    stopDeployment: nothing,
    restartAgent: nothing,
    upgradeAgents: nothing,
    switchMode: nothing,
    restartNode: nothing,
    collect: nothing,
    close: nothing,
  };
}

/** As much of tap's test as checks use; it only counts. */
class CountingTest {
  #failed = 0;
  async test(_: string, { skip }: { skip: string | false }, body: (t: CountingTest) => Promise<void>): Promise<void> {
    if (skip === false) await body(new CountingTest());
  }
  pass(): void {}
  comment(): void {}
  plan(): void {}
  teardown(): void {}
  fail(): void {
    this.#failed++;
  }
  error(): void {
    this.#failed++;
  }
  same(found: readonly unknown[]): void {
    if (found.length > 0) this.#failed++;
  }
  passing(): boolean {
    return this.#failed === 0;
  }
}

for (const [what, result] of Object.entries({
  refused: { responses: [], errors: ['connection refused'] },
  silent: { responses: [], errors: ['i/o timeout'] },
  'answered by a stranger': { responses: ['stranger'], errors: [] },
  'not answered at all': { responses: [], errors: [] },
})) {
  t.test(`connections are ${what}`, async (t) => {
    const results = await runChecks(new CountingTest() as never, { cluster: brokenCluster(result) });
    t.equal(results.length, CHECKS.length);
    const passed = results.filter((r) => r.result !== 'failed').map(({ check }) => check);
    t.same(passed, what === 'refused' ? ['a Service without endpoints refuses'] : [], 'all that can fail');
  });
}

t.test('what a cluster cannot do', async (t) => {
  const cluster = brokenCluster({ responses: [], errors: [] }, (capability) => `no ${capability} here`);
  const results = await runChecks(new CountingTest() as never, { cluster, only: ['cluster DNS', 'Cluster masq'] });
  t.same(
    results.map(({ result, reason }) => [result, reason]),
    [
      ['skipped', 'no client comes from another machine'],
      ['skipped', 'no dns here'],
    ],
  );
  t.match(resultsText(results), /^skipped +[\d.]+ s {2}cluster DNS \(no dns here\)$/m);
});
