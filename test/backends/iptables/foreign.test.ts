// What others have in the same tables stays as it is, bit for bit, and nobody's changes fail because of ours.
import { spawn } from 'node:child_process';
import t from 'tap';
import { NetlinkWriter } from '../../../backends/iptables/netlink-writer.ts';
import { readRules } from '../../../backends/iptables/read.ts';
import { type Rule, ruleKey, TABLES, type Table } from '../../../backends/iptables/rule.ts';
import { FAMILIES, type Family } from '../../../native/ip.ts';
import { NftConnection } from '../../../native/nftables/connection.ts';
import { FOREIGN_RULES } from '../../fixtures/foreign-iptables.ts';
import { kindsOf } from '../../support/iptables-rules.ts';
import { iptablesMissing, restore, saved } from '../../support/iptables-tool.ts';
import { enterNamespace } from '../../support/own-namespace.ts';

const to = (chain: string, text: string): Rule => ({
  matches: [{ match: 'comment', text }],
  target: { target: 'jump', chain },
});
const JUMPS = [
  { table: 'filter' as const, chain: 'FORWARD', rule: to('KUBE-FORWARD', 'kubernetes forwarding rules') },
  { table: 'filter' as const, chain: 'INPUT', rule: to('KUBE-FORWARD', 'kubernetes health check service ports') },
  { table: 'nat' as const, chain: 'OUTPUT', rule: to('KUBE-SERVICES', 'kubernetes service portals') },
  { table: 'nat' as const, chain: 'PREROUTING', rule: to('KUBE-SERVICES', 'kubernetes service portals') },
  { table: 'nat' as const, chain: 'POSTROUTING', rule: to('KUBE-POSTROUTING', 'kubernetes postrouting rules') },
];
const OURS = new Set([
  'KUBE-FORWARD',
  'KUBE-SERVICES',
  'KUBE-POSTROUTING',
  'KUBE-SVC-A',
  'KUBE-SVC-B',
  'KUBE-PROXY-CANARY',
  'KUBE-TEST-TO',
]);
const wanted = (_: Table, chain: string): boolean => OURS.has(chain);
const jumpKeys = new Set(JUMPS.map(({ rule }) => ruleKey(rule)));

/** Rules of everybody else with all their bytes, and the lines of iptables-save. */
async function foreign(nft: NftConnection, family: Family): Promise<{ rules: Map<string, unknown[]>; text: string[] }> {
  const rules = new Map<string, unknown[]>();
  const names: [string, string][] = [];
  await nft.eachChain(family, (table, { name, base }) => {
    if (OURS.has(name)) return;
    rules.set(`${table} ${name} ${base}`, []);
    names.push([table, name]);
  });
  const ours = await readRules(nft, family, { wanted });
  for (const [i, [table, name]] of names.entries()) {
    const jumps = new Set(
      (ours.tables.get(table as Table)?.get(name) ?? []).flatMap(({ handle, rule }) =>
        rule && jumpKeys.has(ruleKey(rule)) ? [handle] : [],
      ),
    );
    await nft.chainRules(family, table, name, (rule) => {
      if (!jumps.has(rule.handle)) [...rules.values()][i]!.push(rule);
    });
  }
  const text = saved(family).filter(
    (line) => !/(^:|^-A |-j )KUBE-(FORWARD|SERVICES|POSTROUTING|SVC-|PROXY-CANARY|TEST-TO)/.test(line),
  );
  return { rules, text };
}

const missing = iptablesMissing();
if (missing !== null) t.test('with iptables', { skip: missing }, async () => {});
else if (await enterNamespace(t)) {
  const nft = new NftConnection();
  t.teardown(() => nft.close());
  const writer = new NetlinkWriter(nft);

  /** The rules of a Service that has an endpoint more in every turn. */
  const nat = (family: Family, turn: number): Rule[] =>
    kindsOf(family, 'nat')
      .slice(0, 4 + (turn % 20))
      .flatMap(({ rule }) => (rule.target?.target === 'MASQUERADE' ? [] : [rule]));

  async function start(): Promise<void> {
    const content = [
      ...TABLES.map((table) => [{ table, chain: 'KUBE-PROXY-CANARY', rules: [], exists: false }]),
      [
        { table: 'filter' as const, chain: 'KUBE-FORWARD', rules: [], exists: false },
        { table: 'nat' as const, chain: 'KUBE-TEST-TO', rules: [], exists: false },
        { table: 'nat' as const, chain: 'KUBE-SVC-A', rules: [], exists: false },
        {
          table: 'nat' as const,
          chain: 'KUBE-SERVICES',
          rules: [to('KUBE-SVC-A', 'shop/web cluster IP')],
          exists: false,
        },
        { table: 'nat' as const, chain: 'KUBE-POSTROUTING', rules: [], exists: false },
      ],
    ];
    const result = await writer.commit(FAMILIES.map((family) => ({ family, tables: TABLES, content, jumps: JUMPS })));
    if (result.outcome !== 'committed') throw new Error(JSON.stringify(result));
  }

  async function change(turn: number): Promise<string> {
    const result = await writer.commit(
      FAMILIES.map((family) => ({
        family,
        content: [[{ table: 'nat', chain: 'KUBE-SVC-A', rules: nat(family, turn), exists: true }]],
        insert: [
          { table: 'filter', chain: 'KUBE-FORWARD', rule: to('KUBE-PROXY-CANARY', `turn ${turn}`), before: null },
        ],
      })),
    );
    if (result.outcome !== 'committed') return JSON.stringify(result);
    const removal = await writer.commit(
      FAMILIES.map((family) => ({
        family,
        deleteRules: [...result.handles].flatMap(([insertion, handle], i) =>
          FAMILIES[i] === family ? [{ table: insertion.table, chain: insertion.chain, handle }] : [],
        ),
      })),
    );
    return removal.outcome;
  }

  async function end(): Promise<void> {
    for (const family of FAMILIES) {
      for (let attempt = 0; ; attempt++) {
        const state = await readRules(nft, family, { wanted });
        const deleteRules = [...state.tables].flatMap(([table, chains]) =>
          [...chains].flatMap(([chain, rules]) =>
            rules.flatMap(({ handle, rule }) =>
              !OURS.has(chain) && rule && jumpKeys.has(ruleKey(rule)) ? [{ table, chain, handle }] : [],
            ),
          ),
        );
        const deleteChains = [...state.tables].flatMap(([table, chains]) =>
          [...chains.keys()].flatMap((chain) => (OURS.has(chain) ? [{ table, chain }] : [])),
        );
        const { outcome } = await writer.commit([{ family, deleteRules, deleteChains }], state.generation);
        if (outcome === 'committed') break;
        if (outcome !== 'outdated' || attempt > 50) throw new Error(`${family}: ${outcome}`);
      }
    }
  }

  t.test('others’ rules, chains and policies', async (t) => {
    for (const family of FAMILIES) restore(family, FOREIGN_RULES[family]);
    const before = new Map<Family, Awaited<ReturnType<typeof foreign>>>();
    for (const family of FAMILIES) before.set(family, await foreign(nft, family));
    t.ok([...before.get('IPv4')!.rules.values()].flat().length > 30);
    const unchanged = async (when: string): Promise<void> => {
      for (const family of FAMILIES) t.strictSame(await foreign(nft, family), before.get(family), `${family}, ${when}`);
    };
    await start();
    await unchanged('after the start');
    t.ok(saved('IPv4', 'filter').includes(':FORWARD DROP'));
    for (const family of FAMILIES) {
      for (const { table, chain, rule } of JUMPS) {
        const { tables } = await readRules(nft, family, { wanted });
        const first = tables.get(table)!.get(chain)![0]!.rule;
        t.equal(first && ruleKey(first), ruleKey(rule), `${family} ${table} ${chain} begins with our jump`);
      }
    }
    const outcomes = new Set<string>();
    for (let turn = 0; turn < 100; turn++) outcomes.add(await change(turn));
    t.strictSame([...outcomes], ['committed']);
    await unchanged('after 100 changes');
    await end();
    await unchanged('after the end');
    t.notMatch(saved('IPv4').join('\n'), /KUBE-(SERVICES|SVC|PROXY)/);
  });

  t.test('others change rules at the same time', async (t) => {
    await start();
    const rounds = 10;
    const script = `set -e; i=0; while [ $i -lt ${rounds} ]; do
      for tool in iptables-nft ip6tables-nft; do
        $tool -t nat -A POSTROUTING -m comment --comment "other $i" -j RETURN; $tool -A FORWARD -m comment --comment "other $i" -j RETURN
        $tool -t nat -D POSTROUTING -m comment --comment "other $i" -j RETURN; $tool -D FORWARD -m comment --comment "other $i" -j RETURN
      done; i=$((i+1)); done`;
    const child = spawn('sh', ['-c', script], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
    });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    let running = true;
    const ended = new Promise<number | null>((resolve) =>
      child.once('exit', (code) => {
        running = false;
        resolve(code);
      }),
    );
    const outcomes = new Set<string>();
    let commits = 0;
    while (running && commits < 50_000) {
      outcomes.add(await change(commits++));
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    t.equal(await ended, 0, stderr);
    t.strictSame([...outcomes], ['committed']);
    t.ok(commits > rounds, `${commits} changes of ours against ${rounds * 8} of theirs`);
    await end();
    for (const family of FAMILIES) t.notMatch(saved(family).join('\n'), /KUBE-(SERVICES|SVC|PROXY)|other/);
  });
}
