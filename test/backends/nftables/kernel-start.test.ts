// Starts against a kernel: from nothing, again, over a damaged table, over kube-proxy; and leaving.
import t from 'tap';
import { noCounts } from '../../../backends/backend.ts';
import { NftablesBackend } from '../../../backends/nftables/backend.ts';
import type { ServicePlan } from '../../../backends/service-plan.ts';
import { FAMILIES } from '../../../native/ip.ts';
import { normalised } from '../../support/nft-text.ts';
import { EventLog, enterNamespace, nft, nftScript } from '../../support/own-namespace.ts';
import { endpoint, PlanWorld, portPlan, SETTINGS, seededRandom, seedOfRun, servicePlan } from '../../support/plans.ts';

const KUBE_PROXY = ['ip', 'ip6'].flatMap((family) => [
  `add table ${family} kube-proxy`,
  `add chain ${family} kube-proxy services { type nat hook prerouting priority -100; }`,
]);

const tables = (): string[] => nft('list', 'tables').trim().split('\n').sort();

if (await enterNamespace(t)) {
  const seed = seedOfRun();
  t.comment(`SEED=${seed}`);
  const world = new PlanWorld({ random: seededRandom(seed), services: 12 });
  for (let i = 0; i < 40; i++) world.step();
  const plans: ServicePlan[] = [...world.plans.values()];
  const events = new EventLog();
  const open = (): NftablesBackend => new NftablesBackend({ events, pollMs: 3_600_000 });

  /** Starts, looks, and closes; what is in the kernel stays. */
  const session = async <T>(act: (backend: NftablesBackend) => Promise<T>): Promise<T> => {
    const backend = open();
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
    t.equal(first.counts.transactions, 1);
    t.equal(first.counts.deleted, 0);
    t.ok(first.counts.added > 100);
    const text = nft('list', 'ruleset');
    await session(async (backend) => {
      t.same((await backend.start(SETTINGS, [...plans].reverse())).counts, noCounts());
      t.equal(await backend.verify(), null);
      t.same(normalised(backend.dump()), normalised(text), 'what it believes is what nft prints');
      t.same(normalised(await backend.dumpKernel()), normalised(text), 'and what it reads');
    });
    t.equal(nft('list', 'ruleset'), text);
  });

  t.test('a restart with other plans sends the difference', async (t) => {
    await session((backend) => backend.start(SETTINGS, plans));
    const fewer = plans.slice(1);
    await session(async (backend) => {
      const { counts } = await backend.start(SETTINGS, fewer);
      t.equal(counts.added, 0);
      t.ok(counts.deleted > 0);
      t.equal(await backend.verify(), null);
    });
    await session(async (backend) => {
      await backend.start(SETTINGS, fewer);
      t.same(normalised(backend.dump()), normalised(nft('list', 'ruleset')));
    });
  });

  t.test('one family only', async (t) => {
    const { IPv6 } = SETTINGS.families;
    await session((backend) => backend.start({ ...SETTINGS, families: { IPv6: IPv6! } }, plans));
    t.same(tables(), ['table ip6 kubeplumb']);
  });

  t.test('a Service that the kernel refuses is left out of the start and named', async (t) => {
    // An IPv6 endpoint in the IPv4 table: data of another length than the map's.
    const bad = servicePlan('bad', [
      portPlan({
        frontends: [{ kind: 'clusterIP', ip: '10.96.77.7', port: 80 }],
        cluster: [endpoint('fd00::1')],
      }),
    ]);
    for (const others of [plans, []]) {
      await session(async (backend) => {
        const { refused } = await backend.start(SETTINGS, [...others, bad]);
        t.match(refused, [{ service: 'shop/bad', family: 'IPv4', message: /EINVAL/ }]);
        t.equal(refused.length, 1);
        t.equal(await backend.verify(), null);
        t.equal(nft('list', 'ruleset').includes('10.96.77.7'), false);
        t.equal(backend.dump().includes('10.96.77.7'), false);
      });
    }
    await session(async (backend) => t.same((await backend.start(SETTINGS, [])).refused, []));
  });

  t.test('a damaged table is replaced', async (t) => {
    const ours = 'add table ip kubeplumb { comment "kubeplumb schema=1"; }';
    const damages: [string, string[]][] = [
      ['another comment', ['add table ip kubeplumb { comment "kubeplumb schema=7"; }', 'add chain ip kubeplumb x']],
      ['no comment', ['add table ip kubeplumb']],
      ['a set of another type', [ours, 'add set ip kubeplumb cluster-ips { type inet_service; }']],
      ['a map of another shape', [ours, 'add map ip kubeplumb services { type ipv4_addr : mark; flags interval; }']],
      [
        'a base chain elsewhere',
        [ours, 'add chain ip kubeplumb nat-prerouting { type nat hook prerouting priority 5; }'],
      ],
    ];
    for (const [name, script] of damages) {
      nft('flush', 'ruleset');
      nftScript(script);
      await session(async (backend) => {
        await backend.start(SETTINGS, plans);
        t.same(normalised(backend.dump()), normalised(nft('list', 'ruleset')), name);
      });
    }
  });

  t.test('an incomplete table is completed', async (t) => {
    nftScript([
      'add table ip kubeplumb { comment "kubeplumb schema=1"; }',
      'add chain ip kubeplumb lb-3',
      'add rule ip kubeplumb lb-3 drop',
      'add chain ip kubeplumb lb-0',
    ]);
    await session(async (backend) => {
      await backend.start(SETTINGS, plans);
      t.same(normalised(backend.dump()).sort(), normalised(nft('list', 'ruleset')).sort());
      t.equal(await backend.verify(), null);
    });
  });

  t.test('taking over from kube-proxy', async (t) => {
    nftScript(KUBE_PROXY);
    await session(async (backend) => {
      const { counts } = await backend.start(SETTINGS, plans);
      t.equal(counts.transactions, 2, 'its tables go after ours are complete');
    });
    t.same(tables(), ['table ip kubeplumb', 'table ip6 kubeplumb']);
  });

  t.test('leaving removes ours and what kube-proxy left, nothing else', async (t) => {
    nftScript(['add table ip other', 'add set ip other kubeplumb { type ipv4_addr; }', 'add table inet kubeplumb']);
    await session((backend) => backend.start(SETTINGS, plans));
    nftScript(KUBE_PROXY);
    t.equal(tables().length, 6);
    await session(async (backend) => {
      t.same((await backend.cleanup()).sort(), [
        'nftables table ip kube-proxy',
        'nftables table ip kubeplumb',
        'nftables table ip6 kube-proxy',
        'nftables table ip6 kubeplumb',
      ]);
      t.same(tables(), ['table inet kubeplumb', 'table ip other']);
      t.same(await backend.cleanup(), []);
    });
  });

  t.test('closing leaves the rules', async (t) => {
    await session((backend) => backend.start(SETTINGS, plans));
    t.equal(tables().length, FAMILIES.length);
    t.same(events.errors, []);
  });
}
