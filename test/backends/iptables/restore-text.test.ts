// The input for iptables-restore, line by line, and how it is divided into runs.
import t from 'tap';
import { restoreLines } from '../../../backends/iptables/restore-text.ts';
import type { Rule } from '../../../backends/iptables/rule.ts';
import type { ChainContent, RuleChanges } from '../../../backends/iptables/rule-changes.ts';
import { inRuns } from '../../../backends/iptables/tool-runs.ts';

const to = (chain: string): Rule => ({ matches: [], target: { target: 'jump', chain } });
const chain = (name: string, rules: readonly Rule[] | null, exists = false): ChainContent => ({
  table: 'nat',
  chain: name,
  rules,
  exists,
});
const text = (changes: Omit<RuleChanges, 'family'>): string[] =>
  [...restoreLines({ family: 'IPv4', ...changes }, ({ handle }) => `opaque ${handle}`)].map((line) => line.text);

t.test('lines', async (t) => {
  t.strictSame(text({}), [], 'nothing to change');
  t.strictSame(text({ content: [], insert: [], deleteChains: [] }), []);
  t.strictSame(text({ tables: ['filter'] }), ['*filter', 'COMMIT'], 'a table that is to exist');
  t.strictSame(
    text({
      content: [
        [chain('SEP', [to('MASQ'), { matches: [], target: null }]), chain('MASQ', [], true)],
        [chain('EXT', null)],
      ],
      insert: [
        { table: 'nat', chain: 'SERVICES', rule: to('SEP'), before: 7 },
        { table: 'nat', chain: 'SERVICES', rule: to('NODEPORTS'), before: null },
        { table: 'filter', chain: 'SERVICES', rule: to('X'), before: null },
      ],
      jumps: [{ table: 'nat', chain: 'OUTPUT', rule: to('SERVICES') }],
      deleteRules: [
        { table: 'nat', chain: 'SERVICES', handle: 3, rule: to('OLD') },
        { table: 'nat', chain: 'SERVICES', handle: 4 },
      ],
      deleteChains: [{ table: 'nat', chain: 'OLD' }],
    }),
    [
      '*filter',
      '-A SERVICES -j X',
      'COMMIT',
      '*nat',
      ':MASQ - [0:0]',
      ':OLD - [0:0]',
      ':SEP - [0:0]',
      '-N EXT',
      '-A SEP -j MASQ',
      '-A SEP',
      '-I SERVICES -j SEP',
      '-A SERVICES -j NODEPORTS',
      '-I OUTPUT -j SERVICES',
      '-D SERVICES -j OLD',
      '-D SERVICES opaque 4',
      '-X OLD',
      'COMMIT',
    ],
  );
  t.strictSame(text({ content: [[chain('KUBE-FIREWALL', null, true)]] }), [], 'somebody else’s chain that is there');
});

t.test('each line knows what it is about', async (t) => {
  const rule = to('B');
  const lines = [...restoreLines({ family: 'IPv6', content: [[chain('A', [rule])]] }, () => '')];
  t.strictSame(
    lines.map((line) => [line.table, line.chain]),
    [
      ['nat', null],
      ['nat', 'A'],
      ['nat', 'A'],
      ['nat', null],
    ],
  );
  t.equal(lines[2]!.rule, rule);
});

t.test('runs', async (t) => {
  const group = (name: string, size: number): ChainContent[] =>
    Array.from({ length: size }, (_, i) => chain(`${name}${i}`, []));
  const names = (changes: RuleChanges): string[] => (changes.content ?? []).flat().map((place) => place.chain);
  const rest = {
    family: 'IPv4' as const,
    tables: ['nat' as const],
    insert: [{ table: 'nat' as const, chain: 'S', rule: to('A0'), before: null }],
  };
  const goes = ['X', 'KUBE-SEP-A', 'KUBE-SVC-A', 'KUBE-SERVICES'].map((name) => ({
    table: 'nat' as const,
    chain: name,
  }));
  const small = [...inRuns({ ...rest, content: [group('A', 2)], deleteChains: goes }, 6)];
  t.equal(small.length, 1, 'few chains: one run');
  t.match(small[0], { ...rest, deleteChains: goes });

  const parts = [
    ...inRuns(
      { ...rest, content: [group('A', 1), group('B', 2), group('C', 5), group('D', 1)], deleteChains: goes },
      3,
    ),
  ];
  t.strictSame(parts.slice(0, 3).map(names), [['A0', 'B0', 'B1'], ['C0', 'C1', 'C2', 'C3', 'C4'], ['D0']]);
  t.strictSame(
    parts.map((part) => [part.tables?.length ?? 0, part.insert?.length ?? 0, part.deleteChains?.length ?? 0]),
    [
      [1, 0, 0],
      [0, 0, 0],
      [0, 1, 0],
      [0, 0, 3],
      [0, 0, 1],
    ],
    'tables first, shared chains when their targets are there, deletions last',
  );
  t.strictSame(
    parts.slice(3).map((part) => part.deleteChains!.map((place) => place.chain)),
    [['KUBE-SERVICES', 'KUBE-SVC-A', 'KUBE-SEP-A'], ['X']],
    'no chain goes before those that lead to it',
  );
  t.equal([...inRuns({ ...rest, content: [group('A', 9)], deleteChains: goes }, Number.POSITIVE_INFINITY)].length, 1);
});
