// Leaving takes away what kube-proxy's rules are, in either variant, and not a word of what others have.
import t from 'tap';
import { leave } from '../../../backends/iptables/leave.ts';
import { NetlinkRules } from '../../../backends/iptables/netlink-rules.ts';
import type { RuleWriter } from '../../../backends/iptables/rule-writer.ts';
import { tablesOf } from '../../../backends/iptables/ruleset.ts';
import type { Variant } from '../../../backends/iptables/run-tool.ts';
import { legacyTables } from '../../../backends/iptables/tool-rules.ts';
import { FAMILIES, type Family } from '../../../native/ip.ts';
import { FOREIGN_RULES } from '../../fixtures/foreign-iptables.ts';
import { changesTo } from '../../support/iptables-changes.ts';
import { TestTool, toolRules } from '../../support/iptables-variant.ts';
import { enterNamespace } from '../../support/own-namespace.ts';
import { sixtyRules } from '../../support/sixty-rules.ts';

/** The kubelet has made it before us, in both families. */
const FIREWALL = `*filter
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A OUTPUT -j KUBE-FIREWALL
COMMIT
`;

async function write(rules: RuleWriter, family: Family): Promise<void> {
  const { plans, options } = await sixtyRules('default', family);
  const tables = tablesOf(plans, { ...options, nfacct: [] });
  const result = await rules.commit([changesTo(tables, await rules.read(family), family)]);
  if (result.outcome !== 'committed') throw new Error(JSON.stringify(result));
}

function testWriter(name: string, variant: Variant, make: () => RuleWriter): void {
  const tools = FAMILIES.map((family) => new TestTool(variant, family));
  t.test(name, { skip: tools[0]!.missing }, async (t) => {
    const rules = make();
    t.teardown(() => rules.close());
    t.afterEach(() => {
      for (const tool of tools) tool.clear();
    });

    t.test('a host without anything', async (t) => {
      t.strictSame(await leave(rules, FAMILIES), { removed: [], problems: [] });
      if (variant === 'legacy') t.strictSame(FAMILIES.flatMap(legacyTables), [], 'no table is created');
    });

    t.test('everything goes, others’ things stay', async (t) => {
      const before = tools.map((tool, i) => {
        tool.restore(FOREIGN_RULES[FAMILIES[i]!]);
        if (FAMILIES[i] === 'IPv6') tool.restore(FIREWALL, '--noflush');
        return tool.saved();
      });
      for (const family of FAMILIES) await write(rules, family);
      t.ok(tools.every((tool) => tool.saved('nat').some((line) => line.startsWith(':KUBE-SVC-'))));
      const { removed, problems } = await leave(rules, FAMILIES);
      t.strictSame(problems, []);
      for (const [i, family] of FAMILIES.entries()) {
        const words = `^${family} \\(iptables-${variant}\\): 12 jumps, 1 chain of table mangle, 6 chains of table filter, \\d+ chains of table nat$`;
        t.match(removed[i], new RegExp(words));
        t.strictSame(tools[i]!.saved(), before[i], family);
      }
      t.strictSame(await leave(rules, FAMILIES), { removed: [], problems: [] }, 'a second time');
    });

    t.test('a part is there, jumps twice', async (t) => {
      const [tool] = tools;
      tool!.restore(`*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-AAAA - [0:0]
:OTHER - [0:0]
-A PREROUTING -j OTHER
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -j KUBE-SVC-AAAA
COMMIT
`);
      t.strictSame(await leave(rules, ['IPv4']), {
        removed: [`IPv4 (iptables-${variant}): 2 jumps, 2 chains of table nat`],
        problems: [],
      });
      t.strictSame(
        tool!.saved('nat').filter((line) => !/^:(PREROUTING|INPUT|OUTPUT|POSTROUTING) /.test(line)),
        ['*nat', ':OTHER -', '-A PREROUTING -j OTHER', 'COMMIT'],
      );
    });

    t.test('a chain that others lead to stays whole', async (t) => {
      const [tool] = tools;
      await write(rules, 'IPv4');
      tool!.restore(
        '*nat\n:CNI-HOSTPORT-SETMARK - [0:0]\n-A CNI-HOSTPORT-SETMARK -j KUBE-MARK-MASQ\n-A OUTPUT -d 192.0.2.7/32 -j KUBE-SERVICES\nCOMMIT\n',
        '--noflush',
      );
      const mark = tool!.saved('nat').filter((line) => line.startsWith('-A KUBE-MARK-MASQ '));
      const services = tool!.saved('nat').filter((line) => line.startsWith('-A KUBE-SERVICES '));
      t.equal(mark.length, 1);
      const { removed, problems } = await leave(rules, ['IPv4']);
      t.equal(removed.length, 1);
      // The second one may be among what the first leads to.
      t.ok(problems.length > 0 && problems.length <= 2);
      t.ok(problems.every((problem) => / chain nat KUBE-(SERVICES|MARK-MASQ) stays, /.test(problem)));
      t.match(problems.join('\n'), 'chain nat KUBE-SERVICES stays, with all it leads to: ');
      const after = tool!.saved('nat');
      t.strictSame(
        after.filter((line) => line.startsWith('-A KUBE-MARK-MASQ ')),
        mark,
      );
      t.strictSame(
        after.filter((line) => line.startsWith('-A KUBE-SERVICES ')),
        services,
      );
      t.notOk(after.some((line) => line.includes('KUBE-POSTROUTING') || line.includes('kubernetes service portals')));
      const gone = (line: string): boolean => /KUBE-(?!FIREWALL)/.test(line);
      t.ok(tool!.saved('filter').includes('-A INPUT -j KUBE-FIREWALL'));
      t.notOk(tool!.saved('filter').some(gone));
      tool!.run('-t', 'nat', '-D', 'OUTPUT', '-d', '192.0.2.7/32', '-j', 'KUBE-SERVICES');
      tool!.run('-t', 'nat', '-F', 'CNI-HOSTPORT-SETMARK');
      t.strictSame((await leave(rules, ['IPv4'])).problems, []);
      t.notOk(tool!.saved().some(gone));
    });
  });
}

// First of all: an ordinary user's run begins anew in a user namespace.
const inNamespace = await enterNamespace(t);

t.test('one family fails', async (t) => {
  const broken: RuleWriter = {
    variant: 'legacy',
    probe: async () => null,
    read: async (family) => {
      if (family === 'IPv4') throw new Error('no program "iptables-legacy"');
      return {
        generation: 0,
        settled: true,
        tables: new Map([['nat', new Map([['KUBE-SERVICES', []]])]]),
      };
    },
    commit: async (changes) => {
      t.strictSame(changes, [
        { family: 'IPv6', deleteRules: [], deleteChains: [{ table: 'nat', chain: 'KUBE-SERVICES' }] },
      ]);
      return { outcome: 'committed', handles: new Map(), counts: { transactions: 1, messages: 1, bytes: 1 } };
    },
    close: () => {},
  };
  t.strictSame(await leave(broken, FAMILIES), {
    removed: ['IPv6 (iptables-legacy): 1 chain of table nat'],
    problems: ['IPv4 (iptables-legacy): no program "iptables-legacy"'],
  });
});

if (inNamespace) {
  testWriter('netlink', 'nft', () => new NetlinkRules());
  testWriter('iptables-nft', 'nft', () => toolRules('nft'));
  testWriter('iptables-legacy', 'legacy', () => toolRules('legacy'));
}
