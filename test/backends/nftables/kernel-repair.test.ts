// Foreign changes to our table, found and undone: on request, by the watch, and in the middle of a sync.
import t from 'tap';
import { NftablesBackend } from '../../../backends/nftables/backend.ts';
import { normalised } from '../../support/nft-text.ts';
import { EventLog, enterNamespace, nft, nftScript } from '../../support/own-namespace.ts';
import { changeTo, endpoints, PlanWorld, portPlan, SETTINGS, seededRandom, servicePlan } from '../../support/plans.ts';

const web = (count: number) => servicePlan('web', [portPlan({ cluster: endpoints(count) })]);

if (await enterNamespace(t)) {
  const world = new PlanWorld({ random: seededRandom(7), services: 6 });
  for (let i = 0; i < 30; i++) world.step();
  for (const key of [...world.plans.keys()]) if (key.endsWith('svc-1')) world.plans.delete(key); // has web's address
  const plans = [...world.plans.values(), web(3)];
  const events = new EventLog();
  const backend = new NftablesBackend({ events, pollMs: 3_600_000 });
  t.teardown(() => backend.close());
  await backend.start(SETTINGS, plans);
  // Chains recreated by a repair are listed last.
  const listing = (): string[] => normalised(nft('list', 'ruleset')).sort();
  const intact = listing();

  const WEB = '10.96.0.1 . tcp . 80';
  const foreign: [string, string[], RegExp][] = [
    ['the table deleted', ['delete table ip kubeplumb'], /IPv4 table missing/],
    ['all deleted', ['flush ruleset'], /IPv4 table missing; IPv6 table missing/],
    ['an element deleted', [`delete element ip kubeplumb services { ${WEB} }`], /services: 1 elements missing/],
    [
      'an element changed',
      [
        `delete element ip kubeplumb endpoints { ${WEB} . 0 }`,
        `add element ip kubeplumb endpoints { ${WEB} . 0 : 10.9.9.9 . 99 }`,
      ],
      /endpoints: 1 elements missing, 1 not ours/,
    ],
    [
      'a comment lost',
      [`delete element ip kubeplumb services { ${WEB} }`, `add element ip kubeplumb services { ${WEB} : 8001:3 }`],
      /services: 1 elements missing, 1 not ours/,
    ],
    [
      'an element added',
      ['add element ip kubeplumb cluster-ips { 10.99.0.1 }'],
      /cluster-ips: 0 elements missing, 1 not ours/,
    ],
    [
      'sets flushed',
      ['flush set ip kubeplumb hairpin', 'flush map ip kubeplumb endpoints'],
      /endpoints: \d+ elements missing/,
    ],
    ['a rule added', ['insert rule ip kubeplumb dispatch drop'], /rules of chain dispatch changed/],
    ['rules flushed', ['flush chain ip6 kubeplumb masquerading'], /rules of chain masquerading changed/],
    ['a rule in an action chain', ['add rule ip kubeplumb lb-3 counter drop'], /rules of chain lb-3 changed/],
    [
      'a chain added, and a way to it',
      [
        'add chain ip kubeplumb extra',
        'add rule ip kubeplumb extra drop',
        'add rule ip kubeplumb nat-output jump extra',
      ],
      /rules of chain nat-output changed/,
    ],
    ['a chain hooked', ['add chain ip kubeplumb extra { type filter hook input priority 0; }'], /chain extra/],
    [
      'a rule with an anonymous set',
      ['add rule ip kubeplumb filter-forward ip saddr { 10.1.1.1, 10.1.1.3 } drop'],
      /rules of chain filter-forward changed/,
    ],
    [
      'a chain, a set and a map of verdicts that hang together',
      [
        'add chain ip kubeplumb extra',
        'add set ip kubeplumb stuff { type ipv4_addr; }',
        'add element ip kubeplumb stuff { 10.0.0.9 }',
        'add map ip kubeplumb leads { type ipv4_addr : verdict; }',
        'add element ip kubeplumb leads { 10.0.0.7 : jump extra }',
        'add rule ip kubeplumb extra ip saddr @stuff drop',
        'add rule ip kubeplumb dispatch ip saddr vmap @leads',
      ],
      /rules of chain dispatch changed/,
    ],
    [
      'chains with names like ours',
      ['add chain ip kubeplumb lb-0', 'add chain ip kubeplumb lb-70000'],
      /chain lb-0 changed/,
    ],
    [
      'an action redirected',
      ['delete element ip kubeplumb actions { 8001:3 }', 'add element ip kubeplumb actions { 8001:3 : goto mq-1 }'],
      /actions: 1 elements missing, 1 not ours/,
    ],
    [
      'a range added',
      [`add element ip kubeplumb source-allowed { ${WEB} . 0.0.0.0/0 }`],
      /source-allowed: 0 elements missing, 1 not ours/,
    ],
  ];
  for (const [name, script, description] of foreign) {
    t.test(name, async (t) => {
      nftScript(script);
      t.not(listing().join(), intact.join(), 'something was changed');
      const drift = await backend.verify();
      t.match(drift?.description, description);
      t.same(listing(), intact);
      t.equal(await backend.verify(), null);
    });
  }

  t.test('client memory is nobody’s drift', async (t) => {
    nft('add', 'element', 'ip', 'kubeplumb', 'affinity', '{ 8000:2000 . 10.0.0.1 timeout 1h : 8000:2001 }');
    t.equal(await backend.verify(), null);
    nft('flush', 'map', 'ip', 'kubeplumb', 'affinity');
  });

  t.test('other tables are left alone', async (t) => {
    nftScript(['add table ip foreign', 'add set ip foreign cluster-ips { type ipv4_addr; }']);
    t.equal(await backend.verify(), null);
    nft('delete', 'table', 'ip', 'foreign');
  });

  t.test('a sync that meets what somebody else wrote', async (t) => {
    events.drifts.length = 0;
    nft('add', 'element', 'ip', 'kubeplumb', 'endpoints', '{ 10.96.0.1 . tcp . 80 . 3 : 10.9.9.9 . 99 }');
    const result = await backend.sync([changeTo(web(4))]);
    t.same(result.refused, []);
    t.equal(events.drifts.length, 1);
    t.match(events.drifts[0]!.description, /endpoints: 0 elements missing, 1 not ours/);
    t.match(
      nft('list', 'map', 'ip', 'kubeplumb', 'endpoints'),
      /10\.96\.0\.1 \. tcp \. 80 \. 3 : 10\.128\.0\.4 \. 8080/,
    );
    t.equal(await backend.verify(), null);
  });

  t.test('a sync that misses what somebody else deleted', async (t) => {
    events.drifts.length = 0;
    nft('delete', 'element', 'ip', 'kubeplumb', 'services', '{ 10.96.0.1 . tcp . 80 }');
    t.same((await backend.sync([changeTo(web(3))])).refused, []);
    t.equal(events.drifts.length, 1);
    t.equal(await backend.verify(), null);
    t.same(listing(), intact);
  });

  t.test('a sync after the table has gone', async (t) => {
    nft('flush', 'ruleset');
    t.same((await backend.sync([changeTo(web(2))])).refused, []);
    t.equal(await backend.verify(), null);
    await backend.sync([changeTo(web(3))]);
    t.same(listing(), intact);
  });

  t.test('the watch repairs by itself and names who it was', async (t) => {
    const watched = new EventLog();
    const { promise, resolve } = Promise.withResolvers<void>();
    const second = new NftablesBackend({
      events: {
        note() {},
        drift(drift) {
          watched.drift(drift);
          resolve();
        },
        condition: (name, message) => watched.condition(name, message),
        error: (message, error) => watched.error(message, error),
      },
      pollMs: 5,
    });
    await second.start(SETTINGS, plans);
    nft('flush', 'ruleset');
    const patience = setTimeout(resolve, 10_000); // also keeps the process alive
    await promise;
    clearTimeout(patience);
    t.match(watched.drifts[0]!.culprit, /^nft \(pid \d+\)$/);
    t.match(watched.drifts[0]!.description, /IPv4 table missing; IPv6 table missing/);
    t.same(listing(), intact);
    t.same(watched.errors, []);
    await second.close();
  });
  t.same(events.errors, []);
}
