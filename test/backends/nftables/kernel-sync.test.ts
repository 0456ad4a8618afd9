// Changes of plans on a kernel: random ones, checked by reading back; refused ones; new settings; small transactions.
import t from 'tap';
import { noCounts } from '../../../backends/backend.ts';
import { NftablesBackend } from '../../../backends/nftables/backend.ts';
import type { Frontend, NodeSettings } from '../../../backends/service-plan.ts';
import { normalised } from '../../support/nft-text.ts';
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

const NO_POLLING = 3_600_000;

if (await enterNamespace(t)) {
  const seed = seedOfRun();
  t.comment(`SEED=${seed}`);
  const events = new EventLog();
  t.afterEach(() => nft('flush', 'ruleset'));
  const open = (limitBytes?: number): NftablesBackend =>
    new NftablesBackend({ events, pollMs: NO_POLLING, ...(limitBytes !== undefined && { limitBytes }) });

  for (const [name, limitBytes, steps] of [
    ['random changes', undefined, 300],
    ['random changes in small transactions', 120 * 12, 100],
  ] as const) {
    t.test(name, async (t) => {
      const random = seededRandom(seed);
      const world = new PlanWorld({ random });
      let backend = open(limitBytes);
      const started = await backend.start(SETTINGS, []);
      t.equal(started.refused.length, 0);
      for (let step = 1; step <= steps; step++) {
        const { refused } = await backend.sync(world.step());
        if (refused.length > 0) {
          t.same(refused, [], `step ${step}`);
          break;
        }
        if (step % 4 === 0) {
          const drift = await backend.verify();
          if (drift !== null) {
            t.equal(drift.description, null, `step ${step}`);
            break;
          }
        }
        if (step % 50 === 0) {
          await backend.close();
          backend = open(limitBytes);
          t.same((await backend.start(SETTINGS, [...world.plans.values()])).counts, noCounts(), `restart at ${step}`);
        }
      }
      t.equal(await backend.verify(), null);
      await backend.close();
      const fresh = open();
      t.same((await fresh.start(SETTINGS, [...world.plans.values()])).counts, noCounts(), 'nothing was left behind');
      t.same(normalised(fresh.dump()).sort(), normalised(nft('list', 'ruleset')).sort());
      await fresh.close();
    });
  }

  t.test('a first start in small transactions', async (t) => {
    const world = new PlanWorld({ random: seededRandom(seed), services: 40, maxEndpoints: 30 });
    for (let i = 0; i < 100; i++) world.step();
    const plans = [...world.plans.values()];
    const small = open(120 * 50);
    const { counts, refused } = await small.start(SETTINGS, plans);
    t.same(refused, []);
    t.ok(counts.transactions > 5);
    t.equal(await small.verify(), null);
    await small.close();
    const whole = open();
    t.same((await whole.start(SETTINGS, plans)).counts, noCounts(), 'the same as at once');
    await whole.close();
  });

  t.test('what a change costs', async (t) => {
    const backend = open();
    const web = (...cluster: Parameters<typeof endpoint>[]) =>
      changeTo(servicePlan('web', [portPlan({ cluster: cluster.map((e) => endpoint(...e)) })]));
    await backend.start(SETTINGS, [web(['10.128.0.1'], ['10.128.0.2']).plan!]);
    const cost = async (change: ReturnType<typeof web>): Promise<number[]> => {
      const { added, deleted, objects, transactions } = (await backend.sync([change])).counts;
      return [deleted, added, objects, transactions];
    };
    t.same(await cost(web(['10.128.0.1'], ['10.128.0.2'])), [0, 0, 0, 0], 'nothing');
    t.same(await cost(web(['10.128.0.1'], ['10.128.0.3'])), [1, 1, 0, 1], 'an endpoint replaced');
    t.same(await cost(web(['10.128.0.1'], ['10.128.0.3'], ['10.128.0.4'])), [1, 2, 0, 1], 'added');
    t.same(await cost(web(['10.128.0.3'], ['10.128.0.4'])), [3, 2, 0, 1], 'removed');
    const seventeen = changeTo(servicePlan('web', [portPlan({ cluster: endpoints(17) })]));
    t.same((await cost(seventeen)).slice(2), [3, 2], 'a chain nobody had before comes one transaction earlier');
    t.same((await backend.sync([])).counts, noCounts());
    await backend.close();
  });

  t.test('a Service that the kernel refuses is named, the others are served', async (t) => {
    const backend = open();
    await backend.start(SETTINGS, []);
    const ip = (n: number) => ({ frontends: [{ kind: 'clusterIP', ip: `10.96.0.${n}`, port: 80 }] as const });
    // An address of the other family, which the planner never lets happen: its key has the wrong length.
    const wrong: Frontend = { kind: 'clusterIP', ip: 'fd00::1', port: 80 };
    const result = await backend.sync([
      changeTo(servicePlan('a', [portPlan({ ...ip(1), cluster: endpoints(1) })])),
      changeTo(servicePlan('bad', [portPlan({ frontends: [wrong] })])),
      changeTo(servicePlan('c', [portPlan({ ...ip(3), cluster: endpoints(2) })])),
    ]);
    t.same(
      result.refused.map(({ service, family }) => [service, family]),
      [['shop/bad', 'IPv4']],
    );
    t.match(result.refused[0]!.message, /E[A-Z]+/);
    const text = nft('list', 'map', 'ip', 'kubeplumb', 'services');
    t.match(text, '"shop/a"');
    t.match(text, '"shop/c"');
    t.notMatch(text, 'shop/bad');
    t.equal(await backend.verify(), null, 'and it is not taken for applied');
    t.same(
      (await backend.sync([changeTo(servicePlan('bad', [portPlan({ ...ip(2), cluster: endpoints(1) })]))])).refused,
      [],
    );
    t.equal(await backend.verify(), null);
    await backend.close();
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
      return [deleted, added, objects, transactions];
    };
    t.same(await cost(SETTINGS), [0, 0, 0, 0], 'the same ones');
    const twoAddresses = ['192.0.2.11', '192.0.2.12'];
    t.same(await cost(withV4({ nodePortAddresses: twoAddresses })), [0, 1, 0, 1], 'an address more');
    t.same(await cost(withV4({ nodePortAddresses: ['192.0.2.12'] })), [1, 0, 0, 1], 'one fewer');
    const cidrs = { nodePortAddresses: ['192.0.2.12'], serviceCidrs: ['10.96.0.0/16', '10.97.0.0/16'] };
    t.same(await cost(withV4(cidrs)), [0, 0, 3, 1], 'ServiceCIDRs: the rules of one chain');
    t.match(nft('list', 'chain', 'ip', 'kubeplumb', 'service-cidrs-check'), 'ip daddr 10.97.0.0/16 drop');
    const everywhere = await cost(withV4({ ...cidrs, nodePortAddresses: 'all' }));
    t.same(everywhere.slice(0, 2), [1, 0], 'every address: no list any more');
    t.match(nft('list', 'chain', 'ip', 'kubeplumb', 'dispatch'), 'fib daddr type local');
    t.ok((await cost({ ...SETTINGS, masqueradeBit: 3 }))[2]! > 0, 'another bit of the mark');
    t.match(nft('list', 'chain', 'ip', 'kubeplumb', 'mq-2'), 'meta mark set meta mark | 0x00000008');
    await backend.close();
    const again = open();
    t.same((await again.start({ ...SETTINGS, masqueradeBit: 3 }, [plan])).counts, noCounts(), 'as after a restart');
    t.same(events.errors, []);
    await again.close();
  });

  t.test('elements kept for packets on their way are no drift, and go', async (t) => {
    const local = endpoint('10.128.4.7', 8080, true);
    const web = (internalLocal: boolean) =>
      changeTo(servicePlan('web', [portPlan({ cluster: endpoints(2), local: [local], internalLocal })]));
    const backend = open();
    await backend.start(SETTINGS, [web(false).plan!]);
    await backend.sync([web(true)]);
    t.match(nft('list', 'map', 'ip', 'kubeplumb', 'endpoints'), '10.128.0.2 . 8080', 'still there');
    t.equal(await backend.verify(), null);
    await backend.close();
    t.notMatch(nft('list', 'map', 'ip', 'kubeplumb', 'endpoints'), '10.128.0.2');
    const again = open();
    t.same((await again.start(SETTINGS, [web(true).plan!])).counts, noCounts());
    await again.close();
  });

  t.test('more endpoints than a word can count', async (t) => {
    const backend = open();
    await backend.start(SETTINGS, []);
    const { refused } = await backend.sync([changeTo(servicePlan('web', [portPlan({ cluster: endpoints(65_600) })]))]);
    t.same(refused, []);
    t.match(nft('list', 'map', 'ip', 'kubeplumb', 'services'), '8001:ffff');
    t.equal(await backend.verify(), null, 'read back by key');
    await backend.close();
  });
}
