// Changes written to the kernel: where rules end up, their handles, several transactions, refusals.
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { NetlinkWriter, type WriteResult } from '../../../backends/iptables/netlink-writer.ts';
import { probeFamily } from '../../../backends/iptables/probe.ts';
import { type ListedRule, readChain, readRules } from '../../../backends/iptables/read.ts';
import { type Rule, TABLES, type Table } from '../../../backends/iptables/rule.ts';
import type { ChainContent, RuleChanges } from '../../../backends/iptables/rule-changes.ts';
import { FAMILIES } from '../../../native/ip.ts';
import { NftConnection } from '../../../native/nftables/connection.ts';
import { iptables, iptablesMissing, restore, saved } from '../../support/iptables-tool.ts';
import { enterNamespace } from '../../support/own-namespace.ts';

const to = (chain: string, port?: number): Rule => ({
  ...(port !== undefined && { protocol: 'tcp' as const }),
  matches: port === undefined ? [] : [{ match: 'port', port }],
  target: { target: 'jump', chain },
});
const chain = (name: string, rules: readonly Rule[], exists = false): ChainContent => ({
  table: 'nat',
  chain: name,
  rules,
  exists,
});
const bodies = (): string[] => saved('IPv4', 'nat').filter((line) => line.startsWith('-A'));
const all = (): boolean => true;
const missing = iptablesMissing();

if (missing !== null) t.test('with iptables', { skip: missing }, async () => {});
else if (await enterNamespace(t)) {
  const nft = new NftConnection();
  t.teardown(() => nft.close());
  const writer = new NetlinkWriter(nft);

  t.afterEach(async () => {
    const batch = nft.batch('');
    for (const { family, name } of nft.tables()) batch.deleteTable(family, name);
    await nft.commit(batch);
  });

  const write = async (changes: Omit<RuleChanges, 'family'>): Promise<WriteResult & { outcome: 'committed' }> => {
    const result = await writer.commit([{ family: 'IPv4', ...changes }]);
    if (result.outcome === 'committed') return result;
    throw new Error(result.outcome === 'refused' ? result.refusals.map((r) => r.message).join('; ') : result.outcome);
  };
  const services = (): Promise<ListedRule[]> => readChain(nft, 'IPv4', 'nat', 'SERVICES');

  t.test('the kernel is able', async (t) => {
    const generation = nft.generation();
    for (const family of FAMILIES) t.equal(await probeFamily(nft, family), null, family);
    t.strictSame(nft.tables(), [], 'nothing stays');
    restore('IPv4', '*nat\n:OTHER -\nCOMMIT\n');
    const before = saved('IPv4');
    for (const family of FAMILIES) t.equal(await probeFamily(nft, family), null, `${family}, with tables`);
    t.strictSame(saved('IPv4'), before);
    t.ok(nft.generation() > generation);
  });

  t.test('rules of a shared chain come before the last one and go by handle', async (t) => {
    await write({
      tables: ['nat'],
      content: [[chain('A', []), chain('LAST', [])], [chain('SERVICES', [to('A', 1), to('LAST')])]],
    });
    const first = await services();
    const before = first[1]!.handle;
    const insert = [2, 3, 3].map((port) => ({ table: 'nat' as const, chain: 'SERVICES', rule: to('A', port), before }));
    const { handles, counts } = await write({ insert });
    t.equal(counts.messages, 3);
    t.strictSame(
      (await services()).map(({ handle }) => handle),
      [first[0]!.handle, ...insert.map((i) => handles.get(i)), before],
      'the handles told are those in the chain',
    );
    await write({ deleteRules: [{ table: 'nat', chain: 'SERVICES', handle: handles.get(insert[1]!)! }] });
    t.strictSame(
      (await services()).map(({ handle }) => handle),
      [first[0]!.handle, handles.get(insert[0]!), handles.get(insert[2]!), before],
    );
    t.match(bodies().at(-1), '-A SERVICES -j LAST');
  });

  t.test('handles of many rules', async (t) => {
    await write({ tables: ['nat'], content: [[chain('A', []), chain('SERVICES', [to('A', 7), to('A')])]] });
    const before = (await services())[1]!.handle;
    // Equal ones among them.
    const insert = Array.from({ length: 3000 }, (_, i) => ({
      table: 'nat' as const,
      chain: 'SERVICES',
      rule: to('A', i % 1000),
      before,
    }));
    const { handles } = await write({ insert });
    const listed = await services();
    t.equal(listed.length, 3002);
    t.strictSame(
      insert.map((i) => handles.get(i)),
      listed.slice(1, -1).map(({ handle }) => handle),
    );
    t.equal(new Set(handles.values()).size, 3000);
  });

  t.test('jumps go to the top, the last one first; policies stay', async (t) => {
    restore('IPv4', '*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i docker0 -j ACCEPT\nCOMMIT\n');
    const jumps = ['A', 'B', 'C'].map((name) => ({ table: 'filter' as const, chain: 'FORWARD', rule: to(name) }));
    await write({
      tables: ['filter'],
      content: [['A', 'B', 'C'].map((name) => ({ table: 'filter', chain: name, rules: null, exists: false }))],
      jumps: [...jumps, { table: 'filter', chain: 'INPUT', rule: to('A') }],
    });
    t.equal(
      iptables('IPv4', ['-S', 'FORWARD']),
      '-P FORWARD DROP\n-A FORWARD -j C\n-A FORWARD -j B\n-A FORWARD -j A\n-A FORWARD -i docker0 -j ACCEPT\n',
    );
    t.equal(iptables('IPv4', ['-S', 'INPUT']), '-P INPUT ACCEPT\n-A INPUT -j A\n');
  });

  t.test('all tables and both families in one transaction', async (t) => {
    const generation = nft.generation();
    const result = await writer.commit(
      FAMILIES.map((family) => ({
        family,
        tables: TABLES,
        content: [TABLES.map((table) => ({ table, chain: 'CANARY', rules: [], exists: false }))],
      })),
    );
    t.match(result, { outcome: 'committed', counts: { transactions: 1, messages: 12 } });
    t.equal(nft.generation(), generation + 1);
    for (const family of FAMILIES) {
      const { tables, settled } = await readRules(nft, family, { wanted: all });
      t.equal(settled, true);
      t.strictSame(
        [...tables].map(([table, chains]) => [table, [...chains.keys()]]),
        TABLES.map((table) => [table, ['CANARY']]),
      );
    }
    t.match(await writer.commit([{ family: 'IPv4' }]), { outcome: 'committed', counts: { transactions: 0 } });
  });

  t.test('the memory of session affinity survives a refill', async (t) => {
    const remember: Rule = {
      protocol: 'udp',
      matches: [
        { match: 'recent', list: 'KUBE-SEP-X', op: 'set', seconds: 0 },
        { match: 'port', port: null },
      ],
      target: { target: 'DNAT', ip: '127.0.0.1', port: 10 },
    };
    const check = (seconds: number): Rule => ({
      matches: [{ match: 'recent', list: 'KUBE-SEP-X', op: 'check', seconds }],
      target: { target: 'jump', chain: 'SEP' },
    });
    const jump = { table: 'nat' as const, chain: 'OUTPUT', rule: to('SVC') };
    const sep = chain('SEP', [remember]);
    const svc = chain('SVC', [check(60), to('SEP')]);
    await write({ tables: ['nat'], content: [[sep, svc]], jumps: [jump] });
    const socket = createSocket('udp4');
    t.teardown(() => socket.close());
    await new Promise<void>((resolve, reject) => {
      socket.send('x', 9, '127.0.0.1', (error) => (error ? reject(error) : resolve()));
    });
    const memory = (): string => readFileSync('/proc/thread-self/net/xt_recent/KUBE-SEP-X', 'utf8');
    const before = memory();
    t.match(before, /src=127\.0\.0\.1 /);
    await write({
      content: [[{ ...sep, exists: true }, chain('SVC', [check(50), to('SEP')], true)]],
    });
    t.equal(memory(), before);
    const { handle } = (await readChain(nft, 'IPv4', 'nat', 'OUTPUT'))[0]!;
    await write({ deleteRules: [{ table: 'nat', chain: 'OUTPUT', handle }] });
    await write({
      deleteChains: [
        { table: 'nat', chain: 'SEP' },
        { table: 'nat', chain: 'SVC' },
      ],
    });
    t.strictSame(bodies(), []);
  });

  t.test('several transactions when one is too small', async (t) => {
    const service = (n: number, endpoints: number, exists = false): ChainContent[] => [
      ...Array.from({ length: endpoints }, (_, i) => chain(`SEP-${n}-${i}`, [to('MARK', i + 1)], exists)),
      chain(
        `SVC-${n}`,
        Array.from({ length: endpoints }, (_, i) => to(`SEP-${n}-${i}`)),
        exists,
      ),
    ];
    const changes = (exists: boolean): Omit<RuleChanges, 'family'> => ({
      tables: ['nat'],
      content: [
        [chain('MARK', [{ matches: [], target: { target: 'MARK', value: 1, mask: 1 } }], exists)],
        ...Array.from({ length: 12 }, (_, n) => service(n, n === 5 ? 60 : 4, exists)),
        [
          chain(
            'SERVICES',
            Array.from({ length: 12 }, (_, n) => to(`SVC-${n}`, n + 1)),
            exists,
          ),
        ],
      ],
      jumps: [{ table: 'nat', chain: 'OUTPUT', rule: to('SERVICES') }],
    });
    const whole = await write(changes(false));
    const text = bodies();
    for (const limitBytes of [40_000, 6000, 1000, 100]) {
      await write({
        deleteRules: (await readRules(nft, 'IPv4', { wanted: all })).tables
          .get('nat')!
          .get('OUTPUT')!
          .map(({ handle }) => ({ table: 'nat', chain: 'OUTPUT', handle })),
      });
      const { tables } = await readRules(nft, 'IPv4', { wanted: all });
      await write({
        deleteChains: [...tables.get('nat')!.keys()]
          .filter((name) => name !== 'OUTPUT')
          .map((name) => ({ table: 'nat', chain: name })),
      });
      t.strictSame(bodies(), []);
      const small = new NetlinkWriter(nft, { limitBytes });
      const result = await small.commit([{ family: 'IPv4', ...changes(false) }]);
      t.match(result, { outcome: 'committed', counts: { messages: whole.counts.messages } }, `${limitBytes} bytes`);
      t.ok(result.counts.transactions > 1, `${result.counts.transactions} transactions`);
      t.strictSame(bodies(), text, 'the same rules in the end');
    }
  });

  t.test('refusals name the rule', async (t) => {
    await write({ tables: ['nat'], content: [[chain('A', []), chain('B', [])]] });
    const [bad, worse, unknown] = [
      to('NOWHERE', 1),
      { ...to('A', 2), source: { cidr: 'fd00::/8', not: false } },
      to('NOWHERE'),
    ];
    const result = await writer.commit([
      { family: 'IPv4', content: [[chain('C', [to('A'), bad, to('B')]), chain('D', [to('A'), unknown])]] },
    ]);
    t.match(result, {
      outcome: 'refused',
      counts: { transactions: 0 },
      refusals: [
        { code: 'ENOENT', family: 'IPv4', table: 'nat', chain: 'C' },
        { code: 'ENOENT', family: 'IPv4', table: 'nat', chain: 'D' },
      ],
    });
    t.ok(result.outcome === 'refused' && result.refusals[0]!.rule === bad && result.refusals[1]!.rule === unknown);
    const encoding = await writer.commit([{ family: 'IPv4', content: [[chain('C', [to('A'), worse])]] }]);
    t.match(encoding, { outcome: 'refused', refusals: [{ code: 'EINVAL', chain: 'C', message: /fd00::\/8/ }] });
    const rows: [string, Omit<RuleChanges, 'family'>, object][] = [
      ['a chain that exists', { content: [[chain('A', [])]] }, { code: 'EEXIST', chain: 'A', rule: null }],
      ['a chain that does not', { content: [[chain('X', [], true)]] }, { code: 'ENOENT', chain: 'X' }],
      [
        'a rule that does not',
        { deleteRules: [{ table: 'nat', chain: 'A', handle: 999 }] },
        { code: 'ENOENT', chain: 'A' },
      ],
      [
        'a place that does not',
        { insert: [{ table: 'nat', chain: 'A', rule: to('B'), before: 999 }] },
        { code: 'ENOENT', chain: 'A', rule: to('B') },
      ],
      [
        'a table that does not',
        { content: [[{ ...chain('A', []), table: 'filter' }]] },
        { code: 'ENOENT', table: 'filter' },
      ],
      [
        'a loop',
        {
          content: [[chain('A', [to('B')], true), chain('B', [to('A')], true)]],
          jumps: [{ table: 'nat', chain: 'OUTPUT', rule: to('A') }],
        },
        { code: 'EMLINK' },
      ],
      [
        'a target in the wrong place',
        {
          content: [[chain('A', [{ matches: [], target: { target: 'MASQUERADE', randomFully: true } }], true)]],
          jumps: [{ table: 'nat', chain: 'OUTPUT', rule: to('A') }],
        },
        { code: 'EINVAL' },
      ],
    ];
    for (const [name, changes, refusal] of rows) {
      t.match(await writer.commit([{ family: 'IPv4', ...changes }]), { outcome: 'refused', refusals: [refusal] }, name);
    }
    t.strictSame(bodies(), [], 'nothing of all that was done');
  });

  t.test('only if nothing has changed since', async (t) => {
    await write({ tables: ['nat'], content: [[chain('A', [])]] });
    const generation = nft.generation();
    const changes = { family: 'IPv4' as const, content: [[chain('A', [to('B')], true)]] };
    iptables('IPv4', ['-t', 'nat', '-N', 'B']);
    t.match(await writer.commit([changes], generation), { outcome: 'outdated', counts: { transactions: 0 } });
    t.match(await writer.commit([changes], nft.generation()), { outcome: 'committed' });
  });

  t.test('reading what is being changed', async (t) => {
    await write({ tables: ['nat'], content: [[chain('A', [to('B')]), chain('B', [])]] });
    let asked = 0;
    const wanted = (_: Table, name: string): boolean => {
      if (name === 'A' && asked++ < 2) iptables('IPv4', ['-t', 'nat', '-A', 'B', '-p', 'tcp']);
      return true;
    };
    const state = await readRules(nft, 'IPv4', { wanted });
    t.equal(state.settled, true, 'read again');
    t.equal(state.generation, nft.generation());
    t.equal(state.tables.get('nat')!.get('B')!.length, 2);
    asked = -5;
    t.equal((await readRules(nft, 'IPv4', { wanted, attempts: 2 })).settled, false, 'but not for ever');
  });
}
