// Rules written and read through the tools themselves, in both variants: what is written is read back as the model has
// it, refusals name what is at fault, and what others have stays as it is.
import t from 'tap';
import { JUMPS } from '../../../backends/iptables/fixed-rules.ts';
import type { WriteCounts, WriteResult } from '../../../backends/iptables/netlink-writer.ts';
import { createCounters } from '../../../backends/iptables/nfacct.ts';
import { isOurChain } from '../../../backends/iptables/proxy-rules.ts';
import { type Rule, TABLES } from '../../../backends/iptables/rule.ts';
import type { ChainContent, Insertion, RuleChanges } from '../../../backends/iptables/rule-changes.ts';
import { type Tables, tablesOf } from '../../../backends/iptables/ruleset.ts';
import type { Variant } from '../../../backends/iptables/run-tool.ts';
import { legacyTables } from '../../../backends/iptables/tool-rules.ts';
import { FAMILIES, type Family } from '../../../native/ip.ts';
import { FOREIGN_RULES } from '../../fixtures/foreign-iptables.ts';
import { changesTo, inKernel } from '../../support/iptables-changes.ts';
import { beside, TestTool, toolRules } from '../../support/iptables-variant.ts';
import { enterNamespace } from '../../support/own-namespace.ts';
import { sixtyRules } from '../../support/sixty-rules.ts';

const to = (chain: string, port?: number): Rule => ({
  ...(port !== undefined && { protocol: 'tcp' as const }),
  matches: port === undefined ? [] : [{ match: 'port', port }],
  target: { target: 'jump', chain },
});
const nat = (chain: string, rules: readonly Rule[] | null, exists = false): ChainContent => ({
  table: 'nat',
  chain,
  rules,
  exists,
});

/** The tables as `inKernel` tells them. */
function model(tables: Tables): Record<string, string[]> {
  return inKernel({
    generation: 0,
    settled: true,
    tables: new Map(
      TABLES.map((table) => [
        table,
        new Map([...tables[table]].map(([name, rules]) => [name, rules.map((rule, i) => ({ handle: i + 1, rule }))])),
      ]),
    ),
  });
}

/** Lines about chains that are not ours; jumps of ours are left out. */
const foreign = (tool: TestTool): string[] => {
  let table = '';
  const ours = (name: string | undefined): boolean =>
    name !== undefined && name !== 'KUBE-FIREWALL' && TABLES.some((t) => t === table && isOurChain(t, name));
  return tool.saved().filter((line) => {
    if (line.startsWith('*')) table = line.slice(1);
    return !ours(/^(?::|-A )(\S+)/.exec(line)?.[1]) && !ours(/ -j (\S+)$/.exec(line)?.[1]);
  });
};

async function testVariant(variant: Variant, family: Family): Promise<void> {
  const tool = new TestTool(variant, family);
  t.test(tool.program, { skip: tool.missing }, async (t) => {
    const rules = toolRules(variant);
    t.teardown(() => {
      rules.close();
      tool.clear();
    });
    const write = async (changes: Omit<RuleChanges, 'family'>): Promise<WriteResult & { outcome: 'committed' }> => {
      const result = await rules.commit([{ family, ...changes }]);
      if (result.outcome === 'committed') return result;
      throw new Error(result.outcome === 'refused' ? result.refusals.map((r) => r.message).join('; ') : result.outcome);
    };
    const refusedBy = async (changes: Omit<RuleChanges, 'family'>): Promise<WriteResult & { outcome: 'refused' }> => {
      const result = await rules.commit([{ family, ...changes }]);
      if (result.outcome !== 'refused') throw new Error(`not refused: ${result.outcome}`);
      return result;
    };
    const bodies = (): string[] => tool.saved('nat').filter((line) => line.startsWith('-A'));
    const { plans, options } = await sixtyRules('default', family);
    const tables = tablesOf(plans, { ...options, nfacct: createCounters() });

    t.test('a fresh host', async (t) => {
      const found = inKernel(await rules.read(family));
      t.strictSame(Object.values(found).flat(), []);
      t.notOk(Object.keys(found).some((name) => name.includes('KUBE-')));
      t.strictSame(legacyTables(family), [], 'reading creates no legacy table');
      t.match(await rules.commit([{ family }]), { outcome: 'committed', counts: { transactions: 0, messages: 0 } });
      t.strictSame(legacyTables(family), []);
      t.equal(await rules.probe(family), null);
    });

    t.test('all kinds of Services are read back as they were written', async (t) => {
      const { counts } = await write(changesTo(tables, await rules.read(family), family));
      t.ok(counts.transactions >= 3);
      t.strictSame(pick(inKernel(await rules.read(family)), tables), model(tables));
      const again = await write(changesTo(tables, await rules.read(family), family));
      const once = JUMPS.length + 1 + tables.filter.get('KUBE-FIREWALL')!.length;
      const lines = ({ messages, transactions }: WriteCounts): number => messages - 2 * transactions;
      t.equal(lines(again.counts), lines(counts) - once, 'jumps that are there are not added again');
      t.strictSame(pick(inKernel(await rules.read(family)), tables), model(tables));
      t.ok(plans.some((plan) => plan.family === family && plan.ports.some((port) => port.affinitySeconds !== null)));
    });

    t.test('rules of a shared chain', async (t) => {
      tool.clear();
      await write({
        tables: ['nat'],
        content: [[nat('KUBE-SVC-A', [])], [nat('KUBE-SERVICES', [to('KUBE-SVC-A', 1), to('KUBE-SVC-A')])]],
      });
      const insert = [2, 3, 3].map(
        (port): Insertion => ({ table: 'nat', chain: 'KUBE-SERVICES', rule: to('KUBE-SVC-A', port), before: 9 }),
      );
      const { handles, counts } = await write({ insert });
      t.equal(new Set(insert.map((i) => handles.get(i))).size, 3);
      t.ok([...handles.values()].every((handle) => handle > 0));
      t.match(counts, { transactions: 1, messages: 5 });
      t.equal(bodies().at(-1), '-A KUBE-SERVICES -j KUBE-SVC-A', 'they come before the last one');
      const gone = insert[1]!;
      await write({ deleteRules: [{ table: 'nat', chain: gone.chain, handle: handles.get(gone)!, rule: gone.rule }] });
      t.equal(bodies().filter((line) => line.includes('--dport 3 ')).length, 1, 'one of two equal ones goes');
      tool.run(
        '-t',
        'nat',
        '-A',
        'KUBE-SERVICES',
        '-m',
        'limit',
        '--limit',
        '3/min',
        '-m',
        'comment',
        '--comment',
        'a "b"',
      );
      const listed = (await rules.read(family)).tables.get('nat')!.get('KUBE-SERVICES')!;
      t.equal(listed.at(-1)!.rule, null, 'a rule of somebody else');
      await write({ deleteRules: [{ table: 'nat', chain: 'KUBE-SERVICES', handle: listed.at(-1)!.handle }] });
      t.equal((await rules.read(family)).tables.get('nat')!.get('KUBE-SERVICES')!.length, listed.length - 1);
      await t.rejects(
        write({ deleteRules: [{ table: 'nat', chain: 'KUBE-SERVICES', handle: 1e9 }] }),
        /has not been read/,
      );
    });

    t.test('refusals', async (t) => {
      tool.clear();
      await write({ content: [[nat('KUBE-SVC-A', []), nat('KUBE-SVC-B', [to('KUBE-SVC-A')])]] });
      const before = tool.saved();
      const bad = to('KUBE-SVC-A', 99_999);
      const wrongPort = await refusedBy({
        content: [[nat('KUBE-SVC-C', [to('KUBE-SVC-A', 1), bad, to('KUBE-SVC-A', 2)])]],
      });
      t.match(wrongPort.refusals, [{ family, table: 'nat', chain: 'KUBE-SVC-C', code: 'EINVAL' }]);
      t.equal(wrongPort.refusals[0]!.rule, bad, 'the rule given');
      t.match(wrongPort.refusals[0]!.message, /invalid port.*99999/);
      t.match(wrongPort.refusals[0]!.message, '\n3: -A KUBE-SVC-C -p tcp -m tcp --dport 1 ', 'lines before');
      t.match(wrongPort.refusals[0]!.message, '\n4: -A KUBE-SVC-C -p tcp -m tcp --dport 99999 ');
      t.match(wrongPort.refusals[0]!.message, /\n6: COMMIT$/, 'lines after');
      t.equal(wrongPort.counts.transactions, 0);
      t.match((await refusedBy({ content: [[nat('KUBE-SVC-C', [to('KUBE-SVC-NONE')])]] })).refusals, [
        { table: 'nat', code: 'ENOENT' },
      ]);
      const missing = { table: 'nat', chain: 'KUBE-SVC-A', handle: 1, rule: to('KUBE-SVC-B') } as const;
      t.match((await refusedBy({ deleteRules: [missing] })).refusals, [{ chain: 'KUBE-SVC-A', code: 'ENOENT' }]);
      t.match((await refusedBy({ deleteChains: [missing] })).refusals, [{ chain: 'KUBE-SVC-A', code: 'EBUSY' }]);
      t.match((await refusedBy({ content: [[nat('KUBE-SVC-A', null)]] })).refusals, [{ code: 'EEXIST' }]);
      t.strictSame(tool.saved(), before, 'nothing has changed');
      const filter: ChainContent = { ...nat('KUBE-FORWARD', []), table: 'filter' };
      const partly = await refusedBy({ content: [[filter], [nat('KUBE-SVC-C', [bad])]] });
      t.match(partly, { counts: { transactions: 1 }, refusals: [{ rule: bad }] });
      t.ok(tool.saved('filter').includes(':KUBE-FORWARD -'), 'tables are written one after another');
    });

    t.test('many chains', async (t) => {
      tool.clear();
      const groups = Array.from({ length: 300 }, (_, i) => [
        nat(`KUBE-SEP-${i}`, [to('KUBE-MARK-MASQ')]),
        nat(`KUBE-SVC-${i}`, [to(`KUBE-SEP-${i}`), to(`KUBE-SEP-${i}`, i + 1)]),
        nat(`KUBE-EXT-${i}`, [to(`KUBE-SVC-${i}`)]),
      ]);
      const { counts } = await write({ content: [[nat('KUBE-MARK-MASQ', [])], ...groups] });
      t.equal(counts.transactions > 1, variant === 'nft');
      t.equal(counts.messages, 901 + 1200 + 2 * counts.transactions);
      const listed = (await rules.read(family)).tables.get('nat')!;
      t.equal([...listed.values()].flat().length, 1200);
      await write({
        deleteChains: [...listed.keys()]
          .filter((name) => name.startsWith('KUBE-'))
          .map((chain) => ({ table: 'nat', chain })),
      });
      t.strictSame(bodies(), []);
      t.notOk(tool.saved('nat').some((line) => line.includes('KUBE-')));
    });

    t.test('what others have', async (t) => {
      tool.clear();
      tool.restore(FOREIGN_RULES[family]);
      const before = foreign(tool);
      t.ok(before.length > 20);
      t.ok(before.includes(':FORWARD DROP'));
      await write(changesTo(tables, await rules.read(family), family));
      const firewall = (line: string): boolean => !line.includes('KUBE-FIREWALL');
      t.strictSame(foreign(tool).filter(firewall), before.filter(firewall));
      const other = `${tool.program} -w 5`;
      const rounds = 8;
      const { child, ended } = beside(`set -e; i=0; while [ $i -lt ${rounds} ]; do
        ${other} -t nat -A POSTROUTING -m comment --comment "other $i" -j RETURN; ${other} -A FORWARD -m comment --comment "other $i" -j DROP
        ${other} -t nat -D POSTROUTING -m comment --comment "other $i" -j RETURN; ${other} -D FORWARD -m comment --comment "other $i" -j DROP
        i=$((i+1)); done`);
      let commits = 0;
      while (child.exitCode === null && commits < 500) {
        const port = 1 + (commits++ % 100);
        const rule = to('KUBE-MARK-MASQ', port);
        await write({
          content: [[nat('KUBE-SEP-CHANGING', [to('KUBE-MARK-MASQ', port)], true)]],
          insert: [{ table: 'filter', chain: 'KUBE-FORWARD', rule: to('KUBE-PROXY-CANARY', port), before: null }],
        });
        const gone = {
          table: 'filter',
          chain: 'KUBE-FORWARD',
          handle: 1,
          rule: to('KUBE-PROXY-CANARY', port),
        } as const;
        await write({
          deleteRules: [gone],
          insert: [{ table: 'nat', chain: 'KUBE-SEP-CHANGING', rule, before: null }],
        });
      }
      t.strictSame(await ended, { status: 0, stderr: '' });
      t.ok(commits > 2, `${commits} changes of ours against ${rounds * 4} of theirs`);
      t.strictSame(foreign(tool).filter(firewall), before.filter(firewall), 'after changes on both sides');
    });
  });
}

/** Chains of the model. */
function pick(found: Record<string, string[]>, tables: Tables): Record<string, string[]> {
  const names = new Set(TABLES.flatMap((table) => [...tables[table].keys()].map((chain) => `${table} ${chain}`)));
  return Object.fromEntries(Object.entries(found).filter(([name]) => names.has(name)));
}

if (await enterNamespace(t)) {
  for (const variant of ['nft', 'legacy'] as const) for (const family of FAMILIES) await testVariant(variant, family);
}
