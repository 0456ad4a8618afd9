// Changes of plans on a kernel: random ones, checked by reading back; what a change costs; refused ones; new settings;
// small transactions; many endpoints.
import t from 'tap';
import { noCounts } from '../../../backends/backend.ts';
import { endpointChain, serviceChains } from '../../../backends/iptables/names.ts';
import type { Frontend, NodeSettings, ServicePlan } from '../../../backends/service-plan.ts';
import { linesOf, listing, TestBackend, touchedChains } from '../../support/iptables-backend.ts';
import { iptables, iptablesMissing, saved } from '../../support/iptables-tool.ts';
import { EventLog, enterNamespace, nft } from '../../support/own-namespace.ts';
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

const svc = (name: string): string => serviceChains(`shop/${name}`, 'TCP').cluster;
const sep = (name: string, ip: string): string => endpointChain(`shop/${name}`, 'TCP', `${ip}:8080`);
const clusterIP = (n: number): Frontend[] => [{ kind: 'clusterIP', ip: `10.96.${n >> 8}.${n & 255}`, port: 80 }];

/** Rules in chains of ours, of all families, by table: as the backend counts them, and in the text. */
const ownedRules = (backend: TestBackend): Record<string, number> => {
  const owned = { filter: 0, nat: 0 };
  for (const figure of backend.ruleFigures()) owned[figure.table] += figure.owned;
  return owned;
};
const countedRules = (dump: string): Record<string, number> => {
  const count: Record<string, number> = { filter: 0, nat: 0 };
  let table = '';
  for (const line of dump.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1);
    if (line.startsWith('-A KUBE-')) count[table] = (count[table] ?? 0) + 1;
  }
  return count;
};

const missing = iptablesMissing();
if (missing !== null) t.test('with iptables', { skip: missing }, async () => {});
else if (await enterNamespace(t)) {
  const seed = seedOfRun();
  t.comment(`SEED=${seed}`);
  const events = new EventLog();
  t.afterEach(() => nft('flush', 'ruleset'));
  const open = (limitBytes?: number): TestBackend =>
    new TestBackend({ events, ...(limitBytes !== undefined && { limitBytes }) });

  for (const [name, limitBytes, steps] of [
    ['random changes', undefined, 200],
    ['random changes in small transactions', 3000, 60],
  ] as const) {
    t.test(name, async (t) => {
      const world = new PlanWorld({ random: seededRandom(seed) });
      let backend = open(limitBytes);
      t.same((await backend.start(SETTINGS, [])).refused, []);
      let fewest = Number.POSITIVE_INFINITY;
      for (let step = 1; step <= steps; step++) {
        const { refused, counts } = await backend.sync(world.step());
        if (refused.length > 0) {
          t.same(refused, [], `step ${step}`);
          break;
        }
        if (counts.transactions > 0) fewest = Math.min(fewest, counts.transactions);
        if (step % 4 === 0) {
          const drift = await backend.verify();
          if (drift !== null) {
            t.equal(drift.description, null, `step ${step}`);
            break;
          }
        }
        if (step % 50 === 0) {
          t.same(linesOf(backend.dump()), listing(), `step ${step}: as iptables-save lists them`);
          t.same(ownedRules(backend), countedRules(backend.dump()), `step ${step}: rules are counted right`);
          await backend.close();
          backend = open(limitBytes);
          t.same((await backend.start(SETTINGS, [...world.plans.values()])).counts, noCounts(), `restart at ${step}`);
        }
      }
      t.equal(fewest, 1);
      t.equal(await backend.verify(), null);
      t.same(linesOf(backend.dump()), listing());
      for (const family of ['IPv4', 'IPv6'] as const) {
        for (const plan of [...world.plans.values()].filter((p) => p.family === family)) {
          const change = { ...changeTo(plan), plan: null };
          const { refused } = await backend.sync([change]);
          if (refused.length > 0) t.same(refused, []);
        }
      }
      t.notMatch(listing().join('\n'), /KUBE-(SVC|SVL|EXT|FW|SEP)-/, 'nothing is left of Services that went');
      await backend.close();
      const fresh = open();
      t.same((await fresh.start(SETTINGS, [])).counts, noCounts());
      await fresh.close();
    });
  }

  t.test('what a change costs', async (t) => {
    const backend = open();
    t.teardown(() => backend.close());
    const others = Array.from({ length: 20 }, (_, i) =>
      servicePlan(`other-${i}`, [portPlan({ frontends: clusterIP(100 + i), cluster: endpoints(3, 100 + 3 * i) })]),
    );
    const web = (...ips: string[]) =>
      servicePlan('web', [portPlan({ frontends: clusterIP(1), cluster: ips.map((ip) => endpoint(ip)) })]);
    await backend.start(SETTINGS, [...others, web('10.128.0.1', '10.128.0.2')]);
    backend.takeCommits();
    const cost = async (...plans: ServicePlan[]): Promise<[counts: number[], touched: string[]]> => {
      const { added, deleted, objects, transactions, bytes } = (await backend.sync(plans.map(changeTo))).counts;
      t.ok(bytes <= 8000, `${bytes} bytes`);
      return [[deleted, added, objects, transactions], touchedChains(backend.takeCommits())];
    };
    t.same(await cost(web('10.128.0.1', '10.128.0.2'), others[0]!), [[0, 0, 0, 0], []], 'nothing');
    t.same(
      await cost(web('10.128.0.1', '10.128.0.3'), others[0]!),
      [
        [0, 5, 3, 1],
        [
          `nat ${sep('web', '10.128.0.3')}: made`,
          `nat ${svc('web')}: rewritten`,
          `nat ${sep('web', '10.128.0.2')}: deleted`,
        ],
      ],
      'an endpoint replaced: neither KUBE-SERVICES nor the endpoint that stays',
    );
    t.same(
      await cost(web('10.128.0.1', '10.128.0.3', '10.128.0.4')),
      [
        [0, 6, 2, 1],
        [`nat ${sep('web', '10.128.0.4')}: made`, `nat ${svc('web')}: rewritten`],
      ],
      'one more',
    );
    t.same(
      (await cost(web()))[1].sort(),
      [
        'filter KUBE-SERVICES: a rule more',
        'nat KUBE-SERVICES: a rule less',
        ...['10.128.0.1', '10.128.0.3', '10.128.0.4'].map((ip) => `nat ${sep('web', ip)}: deleted`),
        `nat ${svc('web')}: deleted`,
      ].sort(),
      'none left',
    );
    t.same((await cost(web('10.128.0.1')))[1], [
      `nat ${sep('web', '10.128.0.1')}: made`,
      `nat ${svc('web')}: made`,
      'nat KUBE-SERVICES: a rule more',
      'filter KUBE-SERVICES: a rule less',
    ]);
    t.same((await backend.sync([])).counts, noCounts());
    t.equal(await backend.verify(), null);
  });

  t.test('the jump to node ports stays last, and handles stay right', async (t) => {
    const random = seededRandom(seed + 1);
    const backend = open();
    t.teardown(() => backend.close());
    const v4 = SETTINGS.families.IPv4!;
    const withAddresses = (nodePortAddresses: 'all' | string[]): NodeSettings => ({
      ...SETTINGS,
      families: { IPv4: { ...v4, nodePortAddresses } },
    });
    const choices = ['all' as const, ['192.0.2.11'], ['192.0.2.11', '192.0.2.12'], [], ['192.0.2.12']];
    let settings = withAddresses(['192.0.2.11']);
    await backend.start(settings, []);
    for (let step = 1; step <= 200; step++) {
      const n = random(12);
      const plan = servicePlan(`svc-${n}`, [
        portPlan({
          frontends: [...clusterIP(n), { kind: 'nodePort', ip: null, port: 30_000 + n }],
          cluster: endpoints(1 + random(3)),
        }),
      ]);
      const change = random(4) === 0 ? { ...changeTo(plan), plan: null } : changeTo(plan);
      const { refused } = await backend.sync([change]);
      if (refused.length > 0) return t.same(refused, [], `step ${step}`);
      if (step % 20 === 0) {
        settings = withAddresses(choices[random(choices.length)]!);
        t.same((await backend.configure(settings)).refused, []);
      }
      if (step % 5 !== 0) continue;
      const targets: string[] =
        iptables('IPv4', ['-t', 'nat', '-S', 'KUBE-SERVICES']).match(/(?<= -j )KUBE-\w+/g) ?? [];
      const first = targets.indexOf('KUBE-NODEPORTS');
      if (first >= 0 && targets.slice(first).some((target) => target !== 'KUBE-NODEPORTS')) {
        return t.fail(`step ${step}: ${targets.join()}`);
      }
      const drift = await backend.verify();
      if (drift) return t.equal(drift.description, null, `step ${step}`);
    }
    t.same(linesOf(backend.dump()), listing());
  });

  t.test('a Service that the kernel refuses is named, the others are served', async (t) => {
    // An endpoint of the other family, which the planner never lets happen.
    const bad = servicePlan('bad', [portPlan({ frontends: clusterIP(2), cluster: [endpoint('fd00::1')] })]);
    const good = (name: string, n: number, count = n) =>
      servicePlan(name, [portPlan({ frontends: clusterIP(n), cluster: endpoints(count) })]);
    for (const limitBytes of [undefined, 3000, 600]) {
      const backend = open(limitBytes);
      await backend.start(SETTINGS, [good('a', 1, 3)]);
      const plans = [good('a', 1), bad, good('c', 3), good('d', 4)];
      const { refused } = await backend.sync(plans.map(changeTo));
      t.same(
        refused.map(({ service, family }) => [service, family]),
        [['shop/bad', 'IPv4']],
        `${limitBytes} bytes`,
      );
      t.match(refused[0]?.message, /shop\/bad|KUBE-|E[A-Z]+/);
      const text = saved('IPv4').join('\n');
      for (const name of ['a', 'c', 'd']) t.match(text, `"shop/${name} cluster IP"`);
      t.notMatch(text, 'shop/bad');
      t.equal(await backend.verify(), null, 'and it is not taken for applied');
      t.same((await backend.sync([changeTo(good('bad', 2))])).refused, []);
      t.same((await backend.sync([changeTo(bad)])).refused.length, 1, 'refused later: the old state stays');
      t.match(saved('IPv4').join('\n'), '"shop/bad cluster IP"');
      t.equal(await backend.verify(), null);
      await backend.close();
      nft('flush', 'ruleset');
    }
  });

  t.test('new settings of the node', async (t) => {
    const plan = servicePlan('web', [
      portPlan({ frontends: [{ kind: 'nodePort', ip: null, port: 30_080 }], cluster: endpoints(1) }),
    ]);
    const backend = open();
    await backend.start(SETTINGS, [plan]);
    const v4 = SETTINGS.families.IPv4!;
    const withV4 = (fields: Partial<typeof v4>): NodeSettings => ({
      ...SETTINGS,
      families: { ...SETTINGS.families, IPv4: { ...v4, ...fields } },
    });
    const cost = async (settings: NodeSettings): Promise<number[]> => {
      const { added, deleted, objects, transactions } = (await backend.configure(settings)).counts;
      t.equal(await backend.verify(), null);
      t.same(linesOf(backend.dump()), listing());
      return [deleted, added, objects, transactions];
    };
    t.same(await cost(SETTINGS), [0, 0, 0, 0], 'the same ones');
    t.same(await cost(withV4({ nodePortAddresses: ['192.0.2.11', '192.0.2.12'] })), [1, 2, 0, 1], 'an address more');
    t.same(await cost(withV4({ nodePortAddresses: ['192.0.2.12'] })), [2, 1, 0, 1], 'one fewer');
    t.same(await cost(withV4({ nodePortAddresses: [] })), [1, 0, 0, 1], 'none');
    t.same(await cost(withV4({ nodePortAddresses: ['192.0.2.12'] })), [0, 1, 0, 1]);
    t.same(await cost(withV4({ nodePortAddresses: 'all', serviceCidrs: ['10.97.0.0/16'] })), [1, 1, 0, 1], 'all');
    t.match(saved('IPv4', 'nat').join('\n'), '! -d 127.0.0.0/8 -m comment --comment "kubernetes service nodeports');
    t.same(await cost(withV4({ nodePortAddresses: 'all', localhostNodePorts: true })), [1, 2, 1, 1], 'on loopback');
    t.match(iptables('IPv4', ['-S', 'KUBE-FIREWALL']), 'block incoming localnet connections');
    const bit3 = { ...SETTINGS, masqueradeBit: 3 };
    t.ok((await backend.configure(bit3)).counts.objects >= 6, 'another bit of the mark');
    t.match(iptables('IPv6', ['-t', 'nat', '-S', 'KUBE-MARK-MASQ']), '--set-xmark 0x8/0x8');
    t.match(iptables('IPv4', ['-S', 'KUBE-FIREWALL']), 'block incoming', 'the kubelet may have written it as well');
    t.equal(await backend.verify(), null);
    await backend.close();
    const again = open();
    t.same((await again.start(bit3, [plan])).counts, noCounts(), 'as after a restart');
    t.same(events.errors, []);
    await again.close();
  });

  t.test('large clusters', async (t) => {
    const backend = open();
    const plan = (name: string, n: number, count: number) =>
      servicePlan(name, [portPlan({ frontends: clusterIP(n), cluster: endpoints(count), affinitySeconds: 60 })]);
    const crowd = (count: number) => plan('crowd', 9, count);
    await backend.start(SETTINGS, [plan('web', 1, 2), plan('other', 2, 2), crowd(996)]);
    const comments = (name: string, ip: string): number =>
      iptables('IPv4', ['-t', 'nat', '-S', svc(name)]).split('--comment').length +
      iptables('IPv4', ['-t', 'nat', '-S', sep(name, ip)]).split('--comment').length;
    const all = comments('web', '10.128.0.1');
    t.equal(all, 1 + 5 + 1 + 2);
    backend.takeCommits();
    await backend.sync([changeTo(crowd(997))]);
    t.equal(touchedChains(backend.takeCommits()).filter((text) => !text.includes('more')).length > 0, true);
    t.equal(comments('web', '10.128.0.1'), all, 'what does not change keeps its comments');
    t.equal(comments('crowd', '10.128.0.1'), 3, 'what changes is written without those of endpoints');
    t.equal(await backend.verify(), null, 'and that is no drift');
    t.same(linesOf(backend.dump()), listing());

    await backend.sync([changeTo(plan('web', 1, 3))]);
    t.equal(comments('web', '10.128.0.1'), 3);
    t.equal(comments('other', '10.128.0.1'), all);
    t.equal(await backend.verify(), null);
    await backend.close();

    const again = open();
    t.same((await again.start(SETTINGS, [crowd(997), plan('web', 1, 3), plan('other', 2, 2)])).counts, noCounts());
    t.same(linesOf(again.dump()), listing(), 'a restart takes either form as it is');
    await again.sync([changeTo(crowd(3))]);
    t.equal(comments('crowd', '10.128.0.1'), 1 + 7 + 1 + 2, 'the way back');
    t.equal(comments('web', '10.128.0.1'), 3);
    t.equal(await again.verify(), null);
    nft('flush', 'ruleset');
    t.ok(await again.verify());
    t.same(linesOf(again.dump()), listing());
    await again.close();
  });

  t.test('affinity outlives changes of endpoints', async (t) => {
    const backend = open();
    t.teardown(() => backend.close());
    const web = (count: number) =>
      servicePlan('web', [portPlan({ cluster: endpoints(count), affinitySeconds: 10_800 })]);
    await backend.start(SETTINGS, [web(2)]);
    backend.takeCommits();
    await backend.sync([changeTo(web(3))]);
    t.same(
      touchedChains(backend.takeCommits()),
      [`nat ${sep('web', '10.128.0.3')}: made`, `nat ${svc('web')}: rewritten`],
      'the chains whose rules hold the lists of clients are not touched',
    );
  });
}
