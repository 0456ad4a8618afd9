// What somebody else does to our chains is found and undone: on request, by the watch, and in the middle of a sync. What
// others have in built-in chains is none of our business.
import t from 'tap';
import { endpointChain, serviceChains } from '../../../backends/iptables/names.ts';
import type { RuleChanges } from '../../../backends/iptables/rule-changes.ts';
import { linesOf, listing, TestBackend, touchedChains } from '../../support/iptables-backend.ts';
import { iptables, iptablesMissing, saved } from '../../support/iptables-tool.ts';
import { EventLog, enterNamespace, nft } from '../../support/own-namespace.ts';
import { changeTo, endpoints, PlanWorld, portPlan, SETTINGS, seededRandom, servicePlan } from '../../support/plans.ts';

const web = (count: number) => servicePlan('web', [portPlan({ cluster: endpoints(count) })]);
const nat = (...args: string[]): string => iptables('IPv4', ['-t', 'nat', ...args]);
const filter = (...args: string[]): string => iptables('IPv4', args);

const missing = iptablesMissing();
if (missing !== null) t.test('with iptables', { skip: missing }, async () => {});
else if (await enterNamespace(t)) {
  const world = new PlanWorld({ random: seededRandom(7), services: 6 });
  for (let i = 0; i < 30; i++) world.step();
  for (const key of [...world.plans.keys()]) if (key.endsWith('svc-1')) world.plans.delete(key); // has web's address
  const plans = [...world.plans.values(), web(3)];
  const events = new EventLog();
  const backend = new TestBackend({ events });
  t.teardown(() => backend.close());
  await backend.start(SETTINGS, plans);
  const intact = listing();
  const SVC = serviceChains('shop/web', 'TCP').cluster;
  const SEP = endpointChain('shop/web', 'TCP', '10.128.0.1:8080');
  const newChain = endpointChain('shop/web', 'TCP', '10.128.0.4:8080');
  const portals = (words: string): string[] => ['-m', 'comment', '--comment', `kubernetes ${words}`];

  const foreign: [string, () => unknown, RegExp, string[]?][] = [
    ['a rule of an own chain deleted', () => nat('-D', SVC, '2'), /^IPv4 nat KUBE-SVC-\w+ changed$/],
    ['an own chain flushed', () => nat('-F', SEP), /^IPv4 nat KUBE-SEP-\w+ changed$/],
    [
      'a rule put into an own chain',
      () => nat('-I', SVC, '-s', '10.1.1.1', '-j', 'RETURN'),
      /^IPv4 nat KUBE-SVC-\w+ changed$/,
    ],
    [
      'one that only nftables can say',
      () => nft('insert', 'rule', 'ip', 'nat', SEP, 'tcp', 'dport', '{ 1, 2 }', 'drop'),
      /^IPv4 nat KUBE-SEP-\w+ changed$/,
    ],
    [
      'an own chain deleted',
      () => {
        nat('-F', SVC);
        nat('-D', 'KUBE-SERVICES', ...servicesRule(SVC));
        nat('-X', SVC);
      },
      /^IPv4 nat KUBE-SVC-\w+ missing, 1 rules missing$/,
    ],
    [
      'a rule of a shared chain deleted',
      () => nat('-D', 'KUBE-SERVICES', ...servicesRule(SVC)),
      /^IPv4 1 rules missing$/,
      ['nat KUBE-SERVICES: a rule more'],
    ],
    [
      'a rule put into a shared chain',
      () => filter('-I', 'KUBE-SERVICES', '-d', '10.9.9.9', '-j', 'DROP'),
      /^IPv4 1 rules not ours$/,
      ['filter KUBE-SERVICES: a rule less'],
    ],
    ['a shared chain flushed', () => nat('-F', 'KUBE-SERVICES'), /^IPv4 \d+ rules missing$/],
    [
      'the jump to node ports deleted',
      () =>
        nat('-D', 'KUBE-SERVICES', String(saved('IPv4', 'nat').filter((l) => l.startsWith('-A KUBE-SERVICES')).length)),
      /^IPv4 1 rules missing$/,
      ['nat KUBE-SERVICES: a rule more'],
    ],
    [
      'something behind the jump to node ports',
      () => nat('-A', 'KUBE-SERVICES', '-d', '10.9.9.9', '-j', 'RETURN'),
      /^IPv4 1 rules missing, 2 rules not ours$/,
    ],
    [
      'the jump to node ports doubled',
      () => {
        const jump = saved('IPv4', 'nat').findLast((l) => l.startsWith('-A KUBE-SERVICES'))!;
        nat('-I', 'KUBE-SERVICES', ...words(jump).slice(2));
      },
      /^IPv4 1 rules not ours$/,
      ['nat KUBE-SERVICES: a rule less'],
    ],
    ['a fixed chain flushed', () => nat('-F', 'KUBE-POSTROUTING'), /^IPv4 nat KUBE-POSTROUTING changed$/],
    [
      'a jump deleted',
      () => nat('-D', 'PREROUTING', ...portals('service portals'), '-j', 'KUBE-SERVICES'),
      /^IPv4 jump from nat PREROUTING to KUBE-SERVICES missing$/,
      ['nat PREROUTING: a jump'],
    ],
    [
      'a chain of a Service that does not exist',
      () => nat('-N', 'KUBE-SVC-AAAAAAAAAAAAAAAA'),
      /KUBE-SVC-A+ not wanted$/,
    ],
    [
      'a canary deleted',
      () => iptables('IPv4', ['-t', 'mangle', '-X', 'KUBE-PROXY-CANARY']),
      /KUBE-PROXY-CANARY missing/,
    ],
    ['iptables -F -t nat', () => nat('-F'), /jump from nat OUTPUT to KUBE-SERVICES missing/],
    [
      'iptables -F and -X, all tables',
      () => {
        for (const table of ['nat', 'filter', 'mangle']) {
          iptables('IPv4', ['-t', table, '-F']);
          iptables('IPv4', ['-t', table, '-X']);
        }
      },
      /missing, and \d+ more$/,
    ],
    ['a table deleted', () => nft('delete', 'table', 'ip6', 'nat'), /^IPv6 table nat missing$/],
    [
      'nft flush ruleset',
      () => nft('flush', 'ruleset'),
      /^IPv4 table mangle missing, table filter missing, table nat missing; IPv6 .* table nat missing$/,
    ],
  ];

  function words(line: string): string[] {
    return [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, word]) => quoted ?? word!);
  }
  function servicesRule(chain: string): string[] {
    const line = saved('IPv4', 'nat').find((l) => l.startsWith('-A KUBE-SERVICES') && l.endsWith(` ${chain}`))!;
    return words(line).slice(2);
  }

  for (const [name, act, description, touched] of foreign) {
    t.test(name, async (t) => {
      act();
      const damaged = listing();
      t.not(damaged.join(), intact.join(), 'something was changed');
      backend.takeCommits();
      const drift = await backend.verify();
      t.match(drift?.description, description);
      if (touched) t.same(touchedChains(backend.takeCommits()), touched);
      t.same(listing(), intact);
      t.equal(await backend.verify(), null);
    });
  }

  t.test('others’ rules in built-in chains, chains and tables', async (t) => {
    nat('-A', 'PREROUTING', '-p', 'tcp', '--dport', '99', '-j', 'RETURN');
    filter('-I', 'FORWARD', '-s', '10.3.3.3', '-j', 'DROP');
    filter('-P', 'FORWARD', 'DROP');
    filter('-N', 'KUBE-OTHER');
    filter('-A', 'KUBE-OTHER', '-j', 'RETURN');
    nft('add', 'table', 'ip', 'foreign');
    const before = listing();
    backend.takeCommits();
    t.equal(await backend.verify(), null);
    t.same(backend.takeCommits(), []);
    t.same(listing(), before);
    filter('-P', 'FORWARD', 'ACCEPT');
    filter('-F', 'KUBE-OTHER');
    filter('-X', 'KUBE-OTHER');
    filter('-D', 'FORWARD', '-s', '10.3.3.3', '-j', 'DROP');
    nat('-D', 'PREROUTING', '-p', 'tcp', '--dport', '99', '-j', 'RETURN');
    nft('delete', 'table', 'ip', 'foreign');
    t.same(listing(), intact);
  });

  t.test('a jump in another place is left there', async (t) => {
    const rule = [...portals('service portals'), '-j', 'KUBE-SERVICES'];
    nat('-I', 'OUTPUT', '-d', '10.7.7.7', '-j', 'RETURN');
    t.equal(await backend.verify(), null);
    t.match(nat('-S', 'OUTPUT').split('\n')[1], '10.7.7.7');
    nat('-A', 'OUTPUT', ...rule);
    nat('-D', 'OUTPUT', '2');
    t.equal(await backend.verify(), null, 'nor is one that somebody put there');
    nat('-D', 'OUTPUT', '1');
    t.same(listing(), intact);
  });

  const syncing: [string, () => unknown][] = [
    ['its chain was deleted', foreign.find(([name]) => name === 'an own chain deleted')![1]],
    ['its rule was deleted', foreign.find(([name]) => name === 'a rule of a shared chain deleted')![1]],
    ['everything is gone', () => nft('flush', 'ruleset')],
    ['the chain it is to get exists', () => nat('-N', newChain)],
  ];
  for (const [name, act] of syncing) {
    t.test(`a sync that finds that ${name}`, async (t) => {
      events.drifts.length = 0;
      act();
      t.same((await backend.sync([changeTo(web(4))])).refused, []);
      // It does not need the rule that is missing, and the watch does not run.
      t.match((await backend.verify())?.description ?? '', name === 'its rule was deleted' ? '1 rules missing' : /^$/);
      t.same(linesOf(backend.dump()), listing());
      t.same((await backend.sync([changeTo(web(3))])).refused, []);
      t.equal(await backend.verify(), null);
      t.same(listing(), intact);
    });
    t.test(`a Service that goes when ${name}`, async (t) => {
      act();
      t.same((await backend.sync([{ ...changeTo(web(0)), plan: null }])).refused, []);
      const rest = (await backend.verify())?.description ?? '';
      t.match(rest, /^$|not wanted/, 'all that can be left is what was put there');
      t.same(linesOf(backend.dump()), listing());
      t.same((await backend.sync([changeTo(web(3))])).refused, []);
      t.same(listing(), intact);
    });
  }

  t.test('others jump to a chain that goes', async (t) => {
    nat('-A', 'PREROUTING', '-d', '192.0.2.200', '-j', SVC);
    t.same((await backend.sync([{ ...changeTo(web(0)), plan: null }])).refused, []);
    t.match(nat('-S', SVC), new RegExp(`^-N ${SVC}\n$`), 'it stays, empty');
    t.equal(await backend.verify(), null);
    t.same((await backend.sync([changeTo(web(4))])).refused, []);
    t.same((await backend.sync([changeTo(web(3))])).refused, []);
    t.equal(await backend.verify(), null);
    nat('-D', 'PREROUTING', '-d', '192.0.2.200', '-j', SVC);
    t.same(listing(), intact);
  });

  t.test('the watch', async (t) => {
    let seen: (() => void) | null = null;
    class Watched extends EventLog {
      override drift(drift: Parameters<EventLog['drift']>[0]): void {
        super.drift(drift);
        seen?.();
      }
    }
    const watched = new Watched();
    const second = new TestBackend({ events: watched, watch: true });
    t.teardown(() => second.close());
    await second.start(SETTINGS, plans);
    const repaired = (act: () => unknown): Promise<void> =>
      new Promise((resolve, reject) => {
        const patience = setTimeout(() => reject(new Error('it was not noticed')), 10_000);
        seen = () => {
          clearTimeout(patience);
          resolve();
        };
        act();
      });
    // Pauses between repairs grow for somebody who keeps at it, so there are few of them.
    for (const [act, description] of [
      [() => nft('flush', 'ruleset'), /IPv4 table mangle missing/],
      [
        () => nat('-D', 'PREROUTING', ...portals('service portals'), '-j', 'KUBE-SERVICES'),
        /jump from nat PREROUTING to KUBE-SERVICES missing/,
      ],
      [() => nat('-F', SVC), /nat KUBE-SVC-\w+ changed/],
    ] as const) {
      await repaired(act);
      t.match(watched.drifts.at(-1)!.description, description);
      t.match(watched.drifts.at(-1)!.culprit, /^(nft|iptables-nft) \(pid \d+\)$/);
      t.same(listing(), intact);
    }
    t.same(watched.errors, []);
    const commits = second.takeCommits();
    t.equal(commits.length, 3, 'one repair for each');
    const last: RuleChanges[] = commits.at(-1)!;
    t.same(touchedChains([last]), [`nat ${SVC}: rewritten`]);

    for (let i = 0; i < 5; i++) {
      filter('-I', 'FORWARD', '-s', '10.3.3.3', '-j', 'DROP');
      filter('-D', 'FORWARD', '-s', '10.3.3.3', '-j', 'DROP');
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
    t.equal(watched.drifts.length, 3, 'what others do in built-in chains is no drift');
    t.same(second.takeCommits(), []);
  });
  t.same(events.errors, []);
}
