// The input for iptables-restore, given to the real tools: they list afterwards what our own text says, in the same
// words. And the rules can be changed and removed without touching what others have there.
import { spawnSync } from 'node:child_process';
import t from 'tap';
import { BUILTIN_CHAINS, JUMPS } from '../../../backends/iptables/fixed-rules.ts';
import { type RestoreChanges, restoreText, restoreTextParts } from '../../../backends/iptables/restore-text.ts';
import { type Rule, TABLES, type Table } from '../../../backends/iptables/rule.ts';
import { type Tables, tablesOf } from '../../../backends/iptables/ruleset.ts';
import { saveText, saveTextParts } from '../../../backends/iptables/save-text.ts';
import { renderService } from '../../../backends/iptables/service-rules.ts';
import { FAMILIES, type Family } from '../../../native/ip.ts';
import { enterNamespace } from '../../support/own-namespace.ts';
import { sixtyRules } from '../../support/sixty-rules.ts';

const FOREIGN = `*filter
:OTHERS - [0:0]
-A FORWARD -j OTHERS
-A OTHERS -p tcp -m comment --comment "not yours" -j RETURN
COMMIT
`;

/** Our chains of a table, without the built-in ones. */
const ownChains = (tables: Tables, table: Table): Map<string, readonly Rule[]> =>
  new Map([...tables[table]].filter(([name]) => !BUILTIN_CHAINS[table].includes(name)));

const jumps = (table: Table) =>
  JUMPS.filter((jump) => jump.table === table).map(({ from, rule }) => ({ chain: from, rule }));

function changesTo(tables: Tables): RestoreChanges {
  return Object.fromEntries(
    TABLES.map((table) => [table, { chains: ownChains(tables, table), inserted: jumps(table) }]),
  );
}

const ruleLines = (text: string): string[] => text.split('\n').filter((line) => /^(-A|:KUBE-|:OTHERS)/.test(line));

t.test('text in parts', async (t) => {
  const { tables } = await sixtyRules('default', 'IPv4');
  const saved = [...saveTextParts(tables, 'IPv4')];
  t.equal(saved.join(''), saveText(tables, 'IPv4'));
  const many = new Map(Array.from({ length: 6000 }, (_, i) => [`KUBE-SEP-${i}`, tables.nat.get('KUBE-MARK-MASQ')!]));
  const parts = [...restoreTextParts({ nat: { chains: many } }, 'IPv4')];
  t.equal(parts.length, 3);
  t.equal(parts.join(''), restoreText({ nat: { chains: many } }, 'IPv4'));
  t.equal([...saveTextParts({ ...tables, nat: many }, 'IPv4')].length, 9, 'two short tables and seven parts');
  t.equal(restoreText({}, 'IPv4'), '', 'nothing to change');
  t.equal(
    restoreText({ nat: { deleted: ['KUBE-SVC-X'] } }, 'IPv4'),
    '*nat\n:KUBE-SVC-X - [0:0]\n-X KUBE-SVC-X\nCOMMIT\n',
  );
});

if (await enterNamespace(t)) {
  for (const tool of ['nft', 'legacy']) {
    for (const family of FAMILIES) {
      const program = `${family === 'IPv4' ? 'iptables' : 'ip6tables'}-${tool}`;
      const missing = spawnSync(program, ['-V']).error !== undefined && `no program "${program}"`;
      t.test(program, { skip: missing }, async (t) => {
        const run = (name: string, input: string, ...args: string[]): string => {
          const { status, stdout, stderr } = spawnSync(`${program}-${name}`, args, { input, encoding: 'utf8' });
          t.equal(status, 0, `${program}-${name}: ${stderr}`);
          return stdout;
        };
        const restore = (input: string): string => run('restore', input, '-w', '5', '--noflush', '--counters');
        const listed = (): string[] => ruleLines(run('save', '')).sort();
        await followTools(family, { restore, listed, t });
      });
    }
  }
}

interface Tools {
  readonly restore: (input: string) => string;
  /** Lines of chains and rules, sorted. */
  readonly listed: () => string[];
  readonly t: { same(found: unknown, wanted: unknown, name: string): boolean };
}

async function followTools(family: Family, { restore, listed, t }: Tools): Promise<void> {
  const { plans, options } = await sixtyRules('default', family);
  // Counters would have to exist in the kernel.
  const without = { ...options, nfacct: [] };
  const tables = tablesOf(plans, without);
  restore(FOREIGN);
  restore(restoreText(changesTo(tables), family));
  const foreign = ruleLines(FOREIGN);
  const wanted = (model: Tables): string[] => [...ruleLines(saveText(model, family)), ...foreign].sort();
  t.same(listed(), wanted(tables), 'all rules are listed in our own words');

  // One Service loses an endpoint: only its chains are given.
  const plan = plans.find((p) => p.name === 'cluster-ip-many' && p.family === family)!;
  const [port] = plan.ports;
  const less = { ...plan, ports: [{ ...port!, cluster: port!.cluster.slice(1) }] };
  const rendered = { ...without, largeCluster: false };
  const before = renderService(plan, rendered).own;
  const after = renderService(less, rendered);
  const deleted = [...before.keys()].filter((name) => !after.own.has(name));
  restore(restoreText({ nat: { chains: after.own, deleted } }, family));
  const changed = plans.map((p) => (p === plan ? less : p));
  t.same(listed(), wanted(tablesOf(changed, without)), 'after a change of one Service');

  const gone = Object.fromEntries(
    TABLES.map((table) => [table, { removed: jumps(table), deleted: [...ownChains(tables, table).keys()] }]),
  );
  for (const name of deleted) gone.nat!.deleted.splice(gone.nat!.deleted.indexOf(name), 1);
  restore(restoreText(gone, family));
  t.same(listed(), foreign.sort(), 'what others have is as it was');
}
