// The iptables backend on the tools instead of netlink, in both variants: start, changes, refusals, repair.
import t from 'tap';
import { noCounts } from '../../../backends/backend.ts';
import { serviceChains } from '../../../backends/iptables/names.ts';
import { ToolRules } from '../../../backends/iptables/tool-rules.ts';
import { FAMILIES, type Family } from '../../../native/ip.ts';
import { FOREIGN_RULES } from '../../fixtures/foreign-iptables.ts';
import { linesOf, listing as listingOf, TestBackend, touchedChains } from '../../support/iptables-backend.ts';
import { VARIANTS, variantMissing } from '../../support/iptables-node.ts';
import { TestTool } from '../../support/iptables-variant.ts';
import { EventLog, enterNamespace } from '../../support/own-namespace.ts';
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

const web = (count: number) => servicePlan('web', [portPlan({ cluster: endpoints(count) })]);
const SVC = serviceChains('shop/web', 'TCP').cluster;

if (await enterNamespace(t)) {
  const seed = seedOfRun();
  t.comment(`SEED=${seed}`);
  for (const variant of VARIANTS) {
    t.test(`iptables-${variant}`, { skip: variantMissing(variant) }, async (t) => {
      const events = new EventLog();
      const tools = new Map(FAMILIES.map((family) => [family, new TestTool(variant, family)]));
      const tool = tools.get('IPv4')!;
      const listing = (): string[] => listingOf((family: Family) => tools.get(family)!.saved());
      const open = (): TestBackend => new TestBackend({ events, writer: new ToolRules({ variant }) });
      t.afterEach(() => {
        for (const each of tools.values()) each.clear();
      });
      const ours = (line: string): boolean => !/^:(PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING) /.test(line);
      const same = (backend: TestBackend): void => {
        t.same(linesOf(backend.dump()).filter(ours), listing().filter(ours));
      };

      t.test('start, restart, random changes', async (t) => {
        const world = new PlanWorld({ random: seededRandom(seed), services: 5 });
        for (let i = 0; i < 10; i++) world.step();
        let backend = open();
        t.same((await backend.start(SETTINGS, [...world.plans.values()])).refused, []);
        same(backend);
        for (let step = 1; step <= 16; step++) {
          const { refused } = await backend.sync(world.step());
          if (refused.length > 0) return t.same(refused, [], `step ${step}`);
          if (step % 8 !== 0) continue;
          const drift = await backend.verify();
          if (drift) return t.equal(drift.description, null, `step ${step}`);
          same(backend);
          await backend.close();
          backend = open();
          t.same((await backend.start(SETTINGS, [...world.plans.values()])).counts, noCounts(), `restart at ${step}`);
        }
        await backend.sync([...world.plans.values()].map((plan) => ({ ...changeTo(plan), plan: null })));
        t.notMatch(listing().join('\n'), /KUBE-(SVC|SVL|EXT|FW|SEP)-/, 'nothing is left of Services that went');
        t.equal(await backend.verify(), null);
        await backend.close();
      });

      t.test('an endpoint replaced, refusals, new settings', async (t) => {
        const backend = open();
        t.teardown(() => backend.close());
        await backend.start(SETTINGS, [web(2)]);
        backend.takeCommits();
        await backend.sync([changeTo(web(3))]);
        const touched = touchedChains(backend.takeCommits());
        t.same(
          touched.map((text) => text.replace(/SEP-\w+/, 'SEP')),
          ['nat KUBE-SEP: made', `nat ${SVC}: rewritten`],
          'no other chain is sent',
        );
        const at = (n: number) => [{ kind: 'clusterIP', ip: `10.96.0.${n}`, port: 80 }] as const;
        const bad = servicePlan('bad', [portPlan({ frontends: at(2), cluster: [endpoint('fd00::1')] })]);
        const good = servicePlan('good', [portPlan({ frontends: at(3), cluster: endpoints(2) })]);
        const { refused } = await backend.sync([changeTo(bad), changeTo(good), changeTo(web(1))]);
        t.same(
          refused.map(({ service, family }) => [service, family]),
          [['shop/bad', 'IPv4']],
        );
        t.equal(await backend.verify(), null);
        same(backend);
        const v4 = { ...SETTINGS.families.IPv4!, nodePortAddresses: 'all' as const };
        await backend.configure({ ...SETTINGS, families: { ...SETTINGS.families, IPv4: v4 } });
        t.equal(await backend.verify(), null);
        same(backend);
        t.match(tool.run('-t', 'nat', '-S', 'KUBE-SERVICES').trim().split('\n').at(-1), '-j KUBE-NODEPORTS');
      });

      t.test('a start with a refused Service', async (t) => {
        const bad = servicePlan('bad', [
          portPlan({ frontends: [{ kind: 'clusterIP', ip: '10.96.0.9', port: 80 }], cluster: [endpoint('fd00::1')] }),
        ]);
        const backend = open();
        t.teardown(() => backend.close());
        const { refused } = await backend.start(SETTINGS, [web(2), bad]);
        t.match(refused, [{ service: 'shop/bad', family: 'IPv4' }]);
        t.equal(refused.length, 1);
        t.equal(await backend.verify(), null);
        same(backend);
      });

      t.test('what somebody else does', async (t) => {
        for (const family of FAMILIES) tools.get(family)!.restore(FOREIGN_RULES[family]);
        const foreign = listing();
        const backend = open();
        t.teardown(() => backend.close());
        await backend.start(SETTINGS, [web(3)]);
        const intact = listing();
        const mine = new Set(intact.filter((line) => !foreign.includes(line)));
        t.same(
          foreign.filter((line) => !intact.includes(line)),
          [],
          'others’ rules are all there',
        );
        t.same(
          linesOf(backend.dump()).filter((line) => ours(line) && !mine.has(line) && !foreign.includes(line)),
          [],
        );
        const acts: [string, () => unknown, RegExp][] = [
          ['a chain flushed', () => tool.run('-t', 'nat', '-F', SVC), /KUBE-SVC-\w+ changed/],
          ['a rule put in', () => tool.run('-t', 'nat', '-I', SVC, '-j', 'RETURN'), /KUBE-SVC-\w+ changed/],
          ['one in a shared chain', () => tool.run('-I', 'KUBE-SERVICES', '-j', 'RETURN'), /1 rules not ours/],
          ['a shared chain flushed', () => tool.run('-t', 'nat', '-F', 'KUBE-SERVICES'), /2 rules missing/],
          ['the canary deleted', () => tool.run('-t', 'mangle', '-X', 'KUBE-PROXY-CANARY'), /CANARY missing/],
        ];
        for (const [name, act, description] of acts) {
          act();
          t.match((await backend.verify())?.description, description, name);
          t.same(listing(), intact, name);
          t.equal(await backend.verify(), null, name);
        }
        tool.run('-t', 'nat', '-F');
        t.match((await backend.verify())?.description, /jump from nat OUTPUT to KUBE-SERVICES missing/);
        t.equal(await backend.verify(), null);
        tool.run('-t', 'nat', '-F', SVC);
        await backend.sync([changeTo(web(2))]);
        t.equal(await backend.verify(), null, 'a sync that finds something else than it left');
      });

      t.test('others jump to a chain that goes', async (t) => {
        const backend = open();
        t.teardown(() => backend.close());
        await backend.start(SETTINGS, [web(2)]);
        tool.run('-t', 'nat', '-A', 'PREROUTING', '-d', '192.0.2.200', '-j', SVC);
        t.same((await backend.sync([{ ...changeTo(web(2)), plan: null }])).refused, []);
        t.equal(await backend.verify(), null);
        t.same((await backend.sync([changeTo(web(3))])).refused, []);
        t.equal(await backend.verify(), null);
        t.same(events.errors, []);
      });
    });
  }
}
