// The simulator is strict: rules that the kernel would refuse, or that it does not know, throw.
import t from 'tap';
import { desiredTable } from '../../backends/nftables/desired.ts';
import { tablesOf } from '../../backends/nftables/render.ts';
import { META, PAYLOAD, REG_VERDICT, reg, VERDICT } from '../../native/nftables/constants.ts';
import type { Expression } from '../../native/nftables/expression.ts';
import { endpoint, portPlan, SETTINGS, servicePlan } from './plans.ts';
import { type Packet, RulesetSimulator } from './ruleset-simulator.ts';

const plan = servicePlan('web', [portPlan({ cluster: [endpoint('10.128.0.1'), endpoint('10.128.0.2')] })]);
const table = desiredTable(SETTINGS, tablesOf(SETTINGS, [plan])[0]!);
const PACKET: Packet = {
  source: '203.0.113.50',
  destination: '10.96.0.1',
  port: 80,
  protocol: 'TCP',
  interface: 'eth0',
};

/** Puts an extra rule at the head of a chain. */
function withRule(expressions: readonly Expression[], chain = 'dispatch'): RulesetSimulator {
  const chains = new Map(table.chains);
  chains.set(chain, [{ text: '', expressions }, ...chains.get(chain)!]);
  return new RulesetSimulator({ tables: [{ ...table, chains }], localAddresses: ['192.0.2.11'] });
}

t.test('every end of a random choice, with its probability', async (t) => {
  const simulator = withRule([]);
  t.match(simulator.outcomes(PACKET), [
    { result: 'DNAT', endpoint: '10.128.0.1:8080', probability: 0.5, masquerade: true },
    { result: 'DNAT', endpoint: '10.128.0.2:8080', probability: 0.5, masquerade: true },
  ]);
  t.throws(() => simulator.connect(PACKET, '10.128.0.3:8080'), /no way to 10.128.0.3:8080/);
});

t.test('what the kernel refuses', async (t) => {
  const cases: [string, Expression[], RegExp][] = [
    ['a register nobody wrote', [{ name: 'metaSet', key: META.priority, sreg: reg(0) }], /read before it is written/],
    ['a register too high', [{ name: 'meta', key: META.mark, dreg: reg(16) }], /no register/],
    ['no such chain', [{ name: 'verdict', code: VERDICT.jump, chain: 'nowhere' }], /no chain nowhere/],
    ['a loop', [{ name: 'verdict', code: VERDICT.jump, chain: 'dispatch' }], /too many jumps/],
    [
      'no such set',
      [
        { name: 'meta', key: META.mark, dreg: reg(0) },
        { name: 'lookup', set: 'nothing', sreg: reg(0), dreg: REG_VERDICT, inverted: false },
      ],
      /no set nothing/,
    ],
  ];
  for (const [name, expressions, error] of cases) {
    t.throws(() => withRule(expressions).outcomes(PACKET), error, name);
  }
});

t.test('what it does not know', async (t) => {
  const cases: [string, Expression, RegExp][] = [
    ['expression', { name: 'other', kernelName: 'limit', bytes: '' }, /expression limit/],
    ['meta key', { name: 'meta', key: 99, dreg: reg(0) }, /meta key 99/],
    ['payload base', { name: 'payload', base: 0, offset: 0, len: 4, dreg: reg(0) }, /payload base 0/],
    ['verdict', { name: 'verdict', code: -1, chain: null }, /verdict -1/],
    ['fib result', { name: 'fib', result: 1, flags: 1, dreg: reg(0) }, /fib result 1/],
    ['reject', { name: 'reject', type: 1, code: 0 }, /reject type 1/],
    ['ct key', { name: 'ct', key: 5, dreg: reg(0) }, /ct key 5/],
  ];
  for (const [name, expression, error] of cases) {
    t.throws(() => withRule([expression]).outcomes(PACKET), error, name);
  }
});

t.test('verdicts of a rule', async (t) => {
  const drop = withRule([{ name: 'verdict', code: VERDICT.drop, chain: null }]);
  t.match(drop.outcomes(PACKET), [{ result: 'DROP', postrouting: false }]);
  const reject = withRule([{ name: 'reject', type: 0, code: 3 }], 'new-forward');
  t.match(reject.outcomes(PACKET), [{ result: 'REJECT' }, { result: 'REJECT' }], 'also after a translation');
  const goto = withRule([{ name: 'verdict', code: VERDICT.goto, chain: 'source-ranges' }]);
  t.match(goto.outcomes(PACKET), [{ result: 'REJECT' }], 'a goto does not come back');
  const jump = withRule([{ name: 'verdict', code: VERDICT.jump, chain: 'source-ranges' }]);
  t.match(jump.outcomes(PACKET), [{ result: 'DNAT' }, { result: 'DNAT' }], 'a jump does');
  const back = withRule([{ name: 'verdict', code: VERDICT.return, chain: null }]);
  t.match(back.outcomes(PACKET), [{ result: 'REJECT' }], 'a return skips the rest of the chain');
});

t.test('a family without a table passes', async (t) => {
  const packet: Packet = { ...PACKET, source: '2001:db8::1', destination: 'fd00::1' };
  t.match(withRule([]).outcomes(packet), [{ result: 'PASS', endpoint: null, masquerade: false, probability: 1 }]);
});

t.test('comparing stops a rule', async (t) => {
  const payload = { name: 'payload', base: PAYLOAD.network, offset: 16, len: 4, dreg: reg(0) } as const;
  const drop = { name: 'verdict', code: VERDICT.drop, chain: null } as const;
  const other = { name: 'cmp', op: 0, sreg: reg(0), data: '\x01\x02\x03\x04' } as const;
  t.match(withRule([payload, other, drop]).outcomes(PACKET), [{ result: 'DNAT' }, { result: 'DNAT' }]);
  const same = { ...other, data: '\x0a\x60' } as const;
  t.match(withRule([payload, same, drop]).outcomes(PACKET), [{ result: 'DROP' }], 'a prefix is compared');
});
