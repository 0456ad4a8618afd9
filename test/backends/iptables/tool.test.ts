// Ours and the tool's rules are the same: what iptables writes is read as the model, and what is written from the model
// iptables lists, finds and deletes as its own.
import t from 'tap';
import { BUILT_IN_CHAINS } from '../../../backends/iptables/built-in.ts';
import { NetlinkWriter } from '../../../backends/iptables/netlink-writer.ts';
import { readRules } from '../../../backends/iptables/read.ts';
import { type Rule, ruleKey, TABLES, type Table } from '../../../backends/iptables/rule.ts';
import { FAMILIES, type Family } from '../../../native/ip.ts';
import { NftConnection } from '../../../native/nftables/connection.ts';
import type { Expression } from '../../../native/nftables/expression.ts';
import { argumentsOf, kindsOf } from '../../support/iptables-rules.ts';
import { iptables, iptablesMissing, restore, saved, tryIptables } from '../../support/iptables-tool.ts';
import { enterNamespace } from '../../support/own-namespace.ts';

const CHAIN = 'KUBE-TEST';
const TO = 'KUBE-TEST-TO';
const wanted = (_: Table, chain: string): boolean => chain.startsWith('KUBE-');
const missing = iptablesMissing();

function scripts(family: Family): string {
  const lines: string[] = [];
  for (const table of ['nat', 'filter'] as const) {
    lines.push(`*${table}`, `:${CHAIN} -`, `:${TO} -`);
    for (const { args } of kindsOf(family, table)) lines.push(`-A ${CHAIN} ${args}`);
    lines.push('COMMIT');
  }
  return `${lines.join('\n')}\n`;
}

/** The extensions of each rule of a chain. */
async function extensions(nft: NftConnection, family: Family, table: Table): Promise<Expression[][]> {
  const out: Expression[][] = [];
  await nft.chainRules(family, table, CHAIN, ({ expressions }) => {
    out.push(expressions.filter((e) => e.name === 'match' || e.name === 'target'));
  });
  return out;
}

if (missing !== null) t.test('with iptables', { skip: missing }, async () => {});
else if (await enterNamespace(t)) {
  const nft = new NftConnection();
  t.teardown(() => nft.close());
  const writer = new NetlinkWriter(nft);

  for (const family of FAMILIES) {
    t.test(family, async (t) => {
      restore(family, scripts(family));
      const theirText = saved(family);
      const theirs = await readRules(nft, family, { wanted });
      t.equal(theirs.settled, true);
      for (const table of ['nat', 'filter'] as const) {
        const rules = theirs.tables.get(table)!.get(CHAIN)!;
        for (const [i, { name, rule }] of kindsOf(family, table).entries()) {
          const read = rules[i]!.rule;
          t.equal(read && ruleKey(read), ruleKey(rule), `${table}: ${name}`);
        }
      }
      const theirBytes = new Map<Table, Expression[][]>();
      for (const table of ['nat', 'filter'] as const) theirBytes.set(table, await extensions(nft, family, table));

      for (const table of ['nat', 'filter'] as const) iptables(family, ['-t', table, '-F']);
      for (const table of ['nat', 'filter'] as const) iptables(family, ['-t', table, '-X']);
      const result = await writer.commit([
        {
          family,
          content: (['nat', 'filter'] as const).map((table) => [
            { table, chain: TO, exists: false, rules: [] },
            { table, chain: CHAIN, exists: false, rules: kindsOf(family, table).map(({ rule }) => rule) },
          ]),
        },
      ]);
      t.match(result, { outcome: 'committed', counts: { transactions: 1 } });
      const ourText = saved(family);
      const bodies = (lines: readonly string[]): string[] => lines.filter((line) => line.startsWith('-A'));
      t.strictSame(bodies(ourText), bodies(theirText), 'the same text in the same order');
      t.strictSame([...ourText].sort(), [...theirText].sort());

      for (const table of ['nat', 'filter'] as const) {
        const ours = await extensions(nft, family, table);
        for (const [i, { name }] of kindsOf(family, table).entries()) {
          // The tool has native expressions for ports and marks, which older versions cannot read.
          const own = ours[i]!.filter((e) => !('extension' in e && /^(tcp|udp|mark)$/.test(e.extension)));
          const tool = theirBytes
            .get(table)!
            [i]!.filter((e) => !('extension' in e && /^(tcp|udp|mark)$/.test(e.extension)));
          t.strictSame(own, tool, `${table}: bytes of ${name}`);
        }
        for (const { name, args } of kindsOf(family, table)) {
          const rule = ['-t', table, '-C', CHAIN, ...argumentsOf(args)];
          t.equal(tryIptables(family, '', rule).status, 0, `${table}: -C finds ${name}`);
        }
        for (const { args } of kindsOf(family, table))
          iptables(family, ['-t', table, '-D', CHAIN, ...argumentsOf(args)]);
        t.strictSame(iptables(family, ['-t', table, '-S', CHAIN]), `-N ${CHAIN}\n`, `${table}: -D deletes them all`);
      }
    });
  }

  t.test('tables and chains made by us are like those of the tool', async (t) => {
    for (const family of FAMILIES) {
      const listing = (): string[] => ['nat', 'filter', 'mangle'].flatMap((table) => saved(family, table));
      for (const table of TABLES) {
        iptables(family, ['-t', table, '-X']);
        iptables(family, ['-t', table, '-N', 'KUBE-A']);
      }
      for (const [table, chains] of Object.entries(BUILT_IN_CHAINS)) {
        for (const chain of chains.keys()) iptables(family, ['-t', table, '-A', chain, '-j', 'KUBE-A']);
      }
      const base = async (): Promise<string[]> => {
        const out: string[] = [];
        await nft.eachChain(family, (table, { name, base }) => out.push(`${table} ${name} ${base}`));
        return out.filter((line) => !/ INPUT nat/.test(line) && !line.startsWith('mangle')).sort();
      };
      const tool = listing();
      const toolBase = await base();
      const batch = nft.batch('');
      for (const { name } of nft.tables().filter((table) => table.family === family)) batch.deleteTable(family, name);
      t.match(await nft.commit(batch), { outcome: 'committed' });
      const rule: Rule = { matches: [], target: { target: 'jump', chain: 'KUBE-A' } };
      const result = await writer.commit([
        {
          family,
          tables: TABLES,
          content: TABLES.map((table) => [{ table, chain: 'KUBE-A', rules: null, exists: false }]),
          jumps: Object.entries(BUILT_IN_CHAINS).flatMap(([table, chains]) =>
            [...chains.keys()].map((chain) => ({ table: table as Table, chain, rule })),
          ),
        },
      ]);
      t.match(result, { outcome: 'committed' });
      const body = (lines: readonly string[]): string[] =>
        lines.filter((line) => !/^:(INPUT|PREROUTING|FORWARD|OUTPUT|POSTROUTING) /.test(line));
      t.strictSame(body(listing()), body(tool));
      const own = await base();
      t.strictSame(
        own,
        toolBase.filter((line) => own.includes(line)),
        'hooks and priorities',
      );
      t.equal(own.filter((line) => line.includes(':')).length, 6);
      iptables(family, ['-t', 'nat', '-A', 'INPUT', '-j', 'KUBE-A']);
      t.ok(saved(family, 'nat').includes('-A INPUT -j KUBE-A'), 'the tool adds the chains it lacks');
    }
  });
}
