// Starts against a kernel: from nothing, again, with other plans, over rules of somebody else, in small transactions.
import t from 'tap';
import { noCounts } from '../../../backends/backend.ts';
import type { ServicePlan } from '../../../backends/service-plan.ts';
import { linesOf, listing, TestBackend, touchedChains } from '../../support/iptables-backend.ts';
import { iptables, iptablesMissing, restore, saved } from '../../support/iptables-tool.ts';
import { inUserNamespace } from '../../support/namespaces.ts';
import { EventLog, enterNamespace, nft } from '../../support/own-namespace.ts';
import {
  endpoint,
  endpoints,
  PlanWorld,
  portPlan,
  SETTINGS,
  seededRandom,
  seedOfRun,
  servicePlan,
} from '../../support/plans.ts';

const missing = iptablesMissing();
if (missing !== null) t.test('with iptables', { skip: missing }, async () => {});
else if (await enterNamespace(t)) {
  const seed = seedOfRun();
  t.comment(`SEED=${seed}`);
  const world = new PlanWorld({ random: seededRandom(seed), services: 12 });
  for (let i = 0; i < 40; i++) world.step();
  const plans: ServicePlan[] = [...world.plans.values()];
  const events = new EventLog();

  /** Starts, looks, and closes; what is in the kernel stays. */
  const session = async <T>(act: (backend: TestBackend) => Promise<T>, limitBytes?: number): Promise<T> => {
    const backend = new TestBackend({ events, ...(limitBytes !== undefined && { limitBytes }) });
    try {
      return await act(backend);
    } finally {
      await backend.close();
    }
  };
  t.afterEach(() => nft('flush', 'ruleset'));

  t.test('this kernel is able', async (t) => {
    await session((backend) => backend.probe());
    t.equal(nft('list', 'ruleset'), '', 'nothing stays of the probe');
  });

  t.test('before the start', async (t) => {
    await session(async (backend) => {
      await t.rejects(backend.configure(SETTINGS), /has not been started/);
      t.throws(() => backend.dump(), /has not been started/);
      t.equal(await backend.verify(), null);
    });
  });

  t.test('one transaction from nothing; a restart sends nothing', async (t) => {
    const first = await session((backend) => backend.start(SETTINGS, plans));
    t.same(first.refused, []);
    // What the send buffer of an ordinary user takes may not be enough.
    t.ok(first.counts.transactions <= (inUserNamespace() ? 2 : 1), `${first.counts.transactions} transactions`);
    t.equal(first.counts.deleted, 0);
    t.ok(first.counts.added > 100);
    const text = nft('-a', 'list', 'ruleset');
    await session(async (backend) => {
      t.same((await backend.start(SETTINGS, [...plans].reverse())).counts, noCounts());
      t.same(backend.takeCommits(), []);
      t.equal(await backend.verify(), null);
      t.same(linesOf(backend.dump()), listing(), 'what it believes is what iptables-save prints');
      t.same(linesOf(await backend.dumpKernel()), listing(), 'and what it reads');
    });
    t.equal(nft('-a', 'list', 'ruleset'), text, 'with the same handles');
  });

  t.test('with no Services', async (t) => {
    await session(async (backend) => {
      t.same((await backend.start(SETTINGS, [])).refused, []);
      t.same(linesOf(backend.dump()), listing());
    });
    await session(async (backend) => t.same((await backend.start(SETTINGS, [])).counts, noCounts()));
  });

  t.test('a restart with other plans sends the difference', async (t) => {
    await session((backend) => backend.start(SETTINGS, plans));
    const gone = plans.find((plan) => plan.ports.every(({ cluster }) => cluster.length > 0))!;
    const fewer = plans.filter((plan) => plan !== gone);
    await session(async (backend) => {
      const { counts } = await backend.start(SETTINGS, fewer);
      t.equal(counts.added, 0);
      t.ok(counts.deleted > 0);
      const chains = touchedChains(backend.takeCommits());
      t.same(
        chains.filter((text) => !/: (a rule less|deleted)$/.test(text)),
        [],
        'nothing is written',
      );
      t.equal(await backend.verify(), null);
      t.same(linesOf(backend.dump()), listing());
    });
    await session(async (backend) => {
      const { counts } = await backend.start(SETTINGS, plans);
      t.equal(counts.deleted, 0);
      t.same(linesOf(backend.dump()), listing());
    });
  });

  t.test('one family only', async (t) => {
    const { IPv6 } = SETTINGS.families;
    await session(async (backend) => {
      await backend.start({ ...SETTINGS, families: { IPv6: IPv6! } }, plans);
      t.match(nft('list', 'tables').trim().split('\n').sort(), [
        'table ip6 filter',
        'table ip6 mangle',
        'table ip6 nat',
      ]);
      t.notMatch(backend.dump(), '# IPv4');
    });
    await session(async (backend) => {
      const { counts } = await backend.start(SETTINGS, plans);
      t.ok(counts.added > 50, 'the other one comes later');
      t.same(linesOf(backend.dump()), listing());
    });
  });

  t.test('a Service that the kernel refuses is left out of the start and named', async (t) => {
    const bad = servicePlan('bad', [
      portPlan({ frontends: [{ kind: 'clusterIP', ip: '10.96.77.7', port: 80 }], cluster: [endpoint('fd00::1')] }),
    ]);
    for (const [others, limitBytes] of [
      [plans, undefined],
      [[], undefined],
      [plans, 6000],
    ] as const) {
      await session(async (backend) => {
        const { refused } = await backend.start(SETTINGS, [...others, bad]);
        t.match(refused, [{ service: 'shop/bad', family: 'IPv4' }]);
        t.equal(refused.length, 1);
        t.equal(await backend.verify(), null);
        t.notMatch(listing().join('\n'), '10.96.77.7');
        t.notMatch(backend.dump(), '10.96.77.7');
        t.same(linesOf(backend.dump()), listing());
      }, limitBytes);
      nft('flush', 'ruleset');
    }
  });

  t.test('in small transactions', async (t) => {
    const many = new PlanWorld({ random: seededRandom(seed), services: 40, maxEndpoints: 30 });
    for (let i = 0; i < 100; i++) many.step();
    const all = [...many.plans.values()];
    await session(async (backend) => {
      const { counts, refused } = await backend.start(SETTINGS, all);
      t.same(refused, []);
      t.ok(counts.transactions > 5, `${counts.transactions} transactions`);
      t.equal(await backend.verify(), null);
    }, 20_000);
    await session(async (backend) => {
      t.same((await backend.start(SETTINGS, all)).counts, noCounts(), 'the same as at once');
      t.same(linesOf(backend.dump()), listing());
    });
  });

  t.test('incomplete and foreign rules in our chains', async (t) => {
    restore(
      'IPv4',
      `*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-OTHER - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m tcp -p tcp --dport 99 -j KUBE-OTHER
-A KUBE-SERVICES -d 10.96.5.5/32 -p tcp -m comment --comment "shop/old cluster IP" -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SERVICES -p tcp -m multiport --dports 1,2 -j RETURN
-A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x8000/0x8000
COMMIT
`,
    );
    const first = saved('IPv4', 'nat').filter((line) => line.startsWith('-A PREROUTING'));
    await session(async (backend) => {
      await backend.start(SETTINGS, plans);
      t.equal(await backend.verify(), null);
      const others = (line: string): boolean => !line.includes('KUBE-OTHER');
      t.same(linesOf(backend.dump()), listing().filter(others));
      t.same(
        saved('IPv4', 'nat').filter((line) => line.startsWith('-A PREROUTING')),
        first,
        'a jump that is there stays where it is',
      );
    });
  });

  t.test('chains of ours that others jump to', async (t) => {
    const plan = servicePlan('web', [portPlan({ cluster: endpoints(2) })]);
    await session((backend) => backend.start(SETTINGS, [plan]));
    const chain = saved('IPv4', 'nat')
      .find((line) => line.startsWith(':KUBE-SVC-'))!
      .slice(1)
      .split(' ')[0]!;
    iptables('IPv4', ['-t', 'nat', '-A', 'PREROUTING', '-d', '192.0.2.200', '-j', chain]);
    await session(async (backend) => {
      t.same((await backend.start(SETTINGS, [])).refused, []);
      t.equal(await backend.verify(), null);
    });
  });

  t.test('closing leaves the rules', async (t) => {
    await session((backend) => backend.start(SETTINGS, plans));
    t.ok(listing().length > 100);
    t.same(events.errors, []);
  });
}
