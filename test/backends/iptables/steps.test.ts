// The order of messages, and where a transaction that is too large is cut.
import t from 'tap';
import type { Rule } from '../../../backends/iptables/rule.ts';
import { CUT, cutPoint, type RuleChanges, type Step, stepsOf } from '../../../backends/iptables/rule-changes.ts';

const to = (chain: string): Rule => ({ matches: [], target: { target: 'jump', chain } });
const text = ({ op, table, chain, at, rule }: Step): string =>
  [
    op,
    table,
    chain,
    ...(op === 'deleteRule' || at !== 'end' ? [at] : []),
    ...(rule?.target?.target === 'jump' ? [`> ${rule.target.chain}`] : []),
  ]
    .filter((word) => word !== '')
    .join(' ');

const CHANGES: RuleChanges = {
  family: 'IPv4',
  tables: ['nat'],
  content: [
    [{ table: 'mangle', chain: 'CANARY', rules: null, exists: false }],
    [
      { table: 'nat', chain: 'SEP', rules: [to('MARK')], exists: false },
      { table: 'nat', chain: 'SVC', rules: [to('SEP'), to('OLD')], exists: true },
      { table: 'nat', chain: 'EMPTY', rules: [], exists: true },
    ],
  ],
  insert: [
    { table: 'nat', chain: 'SERVICES', rule: to('SVC'), before: 7 },
    { table: 'filter', chain: 'SERVICES', rule: to('X'), before: null },
  ],
  jumps: [
    { table: 'nat', chain: 'OUTPUT', rule: to('SERVICES') },
    { table: 'nat', chain: 'OUTPUT', rule: to('POST') },
  ],
  deleteRules: [{ table: 'nat', chain: 'SERVICES', handle: 3 }],
  deleteChains: [
    { table: 'nat', chain: 'GONE' },
    { table: 'nat', chain: 'GONE-TOO' },
  ],
};

t.test('order', async (t) => {
  t.strictSame([...stepsOf(CHANGES)].map(text), [
    'table nat',
    'builtIn nat OUTPUT',
    'newChain mangle CANARY',
    'newChain nat SEP',
    'rule nat SEP > MARK',
    'flush nat SVC',
    'rule nat SVC > SEP',
    'rule nat SVC > OLD',
    'flush nat EMPTY',
    'rule nat SERVICES 7 > SVC',
    'rule filter SERVICES > X',
    'rule nat OUTPUT top > SERVICES',
    'rule nat OUTPUT top > POST',
    'deleteRule nat SERVICES 3',
    'flush nat GONE',
    'flush nat GONE-TOO',
    'deleteChain nat GONE',
    'deleteChain nat GONE-TOO',
  ]);
  t.strictSame([...stepsOf({ family: 'IPv6' })], []);
});

t.test('cuts', async (t) => {
  const steps = [...stepsOf(CHANGES)];
  const upTo = (wanted: string): Step[] => steps.slice(0, steps.findIndex((step) => text(step) === wanted) + 1);
  const cutBefore = (list: readonly Step[]): string => text(list[cutPoint(list)]!);
  t.equal(cutBefore(upTo('rule nat SVC > OLD')), 'rule nat SEP > MARK', 'a Service is not torn apart');
  t.equal(cutBefore(upTo('flush nat EMPTY')), 'rule nat SEP > MARK');
  t.equal(cutBefore(upTo('rule filter SERVICES > X')), 'rule filter SERVICES > X');
  const service = steps.slice(4, 9);
  t.equal(cutBefore(service), 'flush nat EMPTY', 'unless it does not fit; then not a chain');
  t.equal(cutBefore(service.slice(0, 4)), 'flush nat SVC');
  const chain = service.slice(1, 4);
  t.equal(cutBefore(chain), 'rule nat SVC > OLD', 'unless that does not fit either');
  t.ok(chain.slice(1).every(({ cut }) => cut === CUT.never));
});
