// Rules as nf_tables expressions: a message as iptables writes it, every form that versions of the tool write, and
// nothing else taken for a rule.
import t from 'tap';
import { decodeRule } from '../../../backends/iptables/decode.ts';
import { compatProtocol, encodeRule } from '../../../backends/iptables/encode.ts';
import { type Rule, ruleKey } from '../../../backends/iptables/rule.ts';
import { FAMILIES, ipBytes } from '../../../native/ip.ts';
import { MessageWriter } from '../../../native/netlink/message.ts';
import { Batch } from '../../../native/nftables/batch.ts';
import { u32Host } from '../../../native/nftables/constants.ts';
import { type Expression, readExpressions } from '../../../native/nftables/expression.ts';
import * as matches from '../../../native/xtables/matches.ts';
import { RULE_KINDS } from '../../support/iptables-rules.ts';
import { seededRandom, seedOfRun } from '../../support/plans.ts';
import { randomRule } from '../../support/random-rule.ts';

const seed = seedOfRun();
t.comment(`SEED=${seed}`);

t.test('a whole message', async (t) => {
  // iptables-nft -t nat -A KUBE-SEP-X -p tcp -m tcp -j DNAT --to-destination 10.244.1.10:8080
  const rule: Rule = {
    protocol: 'tcp',
    matches: [{ match: 'port', port: null }],
    target: { target: 'DNAT', ip: '10.244.1.10', port: 8080 },
  };
  const writer = new MessageWriter();
  let seq = 0;
  const batch = new Batch({ writer, nextSeq: () => ++seq, table: 'nat' });
  const before = writer.length;
  batch.addRule('IPv4', 'KUBE-SEP-X', encodeRule('IPv4', rule), { compatProtocol: compatProtocol(rule) });
  t.equal(
    writer.bytes().subarray(before).toString('hex'),
    '54010000060a010c020000000000000002000000080001006e6174000f0002004b5542452d5345502d5800001401048024000180090001006d6574610000000014000280080002000000001008000100' +
      '000000012c00018008000100636d700020000280080001000000000108000200000000000c0003800500010006000000380001800a0001006d6174636800000028000280080001007463700008000200' +
      '00000000140003000000ffff0000ffff00000000000000002c0001800c000100636f756e746572001c0002800c00010000000000000000000c00020000000000000000005c0001800b00010074617267' +
      '657400004c00028009000100444e415400000000080002000000000234000300030000000af4010a0000000000000000000000000af4010a0000000000000000000000001f901f900000000000000000' +
      '1400058008000100000000060800020000000000',
  );
});

t.test('where a rule goes', async (t) => {
  const writer = new MessageWriter();
  let seq = 0;
  const batch = new Batch({ writer, nextSeq: () => ++seq, table: '' });
  const last = (from: number): { flags: number; hex: string } => ({
    flags: writer.buffer.readUInt16LE(batch.subjects[from]!.at + 6),
    hex: writer
      .bytes()
      .subarray(batch.subjects[from]!.at + 20)
      .toString('hex'),
  });
  batch.useTable('a');
  batch.addRule('IPv4', 'b', [], { at: 'top' });
  t.same(last(0), { flags: 0x401, hex: '0600010061000000' + '0600020062000000' + '04000480' });
  batch.addRule('IPv4', 'b', [], { at: 258, echo: true });
  t.match(last(1), { flags: 0x409, hex: /0c0006000000000000000102$/ });
  batch.addRule('IPv4', 'b', []);
  t.match(last(2), { flags: 0xc01 });
  batch.deleteRule('IPv4', 'b', 7);
  t.match(last(3), { flags: 1, hex: /0c0003000000000000000007$/ });
  const length = writer.length;
  batch.addChain('IPv4', 'INPUT', { type: 'filter', hook: 1, priority: 0, keepPolicy: true });
  t.notMatch(last(4).hex, '08000500', 'no policy');
  batch.addChain('IPv4', 'c', undefined, true);
  t.match(last(5), { flags: 0x601 });
  batch.rewind(4);
  t.equal(writer.length, length);
  t.equal(batch.subjects.length, 4);
  t.equal(batch.counts.objects, 4);
  t.equal(batch.indexOf(batch.subjects[2]!.seq), 2);
  t.equal(batch.indexOf(9999), null);
});

t.test('a rule of each kind is decoded as it was', async (t) => {
  for (const { name, families, rule } of RULE_KINDS) {
    for (const family of families) {
      t.equal(ruleKey(decodeRule(family, encodeRule(family, rule))!), ruleKey(rule), `${family} ${name}`);
    }
  }
});

t.test('random rules are decoded as they were', async (t) => {
  const random = seededRandom(seed);
  let equal = 0;
  for (let i = 0; i < 4000; i++) {
    const family = FAMILIES[i & 1]!;
    const rule = randomRule(random, family);
    // Through bytes as well.
    const writer = new MessageWriter();
    const batch = new Batch({ writer, nextSeq: () => 1, table: '' });
    const at = writer.length + 20 + 8 + 8 + 4;
    batch.addRule(family, 'x', encodeRule(family, rule));
    const expressions = readExpressions(writer.buffer, at, writer.length);
    const decoded = decodeRule(family, expressions);
    if (decoded && ruleKey(decoded) === ruleKey(rule)) equal++;
    else t.strictSame(decoded, rule, `SEED=${seed}, rule ${i}`);
  }
  t.equal(equal, 4000);
});

const REG32 = 8;
const payload = (base: number, offset: number, len: number): Expression => ({
  name: 'payload',
  base,
  offset,
  len,
  dreg: REG32,
});
const meta = (key: number): Expression => ({ name: 'meta', key, dreg: REG32 });
const cmp = (data: string, op = 0): Expression => ({ name: 'cmp', op, sreg: REG32, data });
const mask = (mask: string): Expression => ({
  name: 'bitwise',
  sreg: REG32,
  dreg: REG32,
  len: mask.length,
  mask,
  xor: mask.replace(/./gs, '\0'),
});
const drop: Expression = { name: 'verdict', code: 0, chain: null };
const TCP = cmp('\x06');

t.test('other forms of the same rules', async (t) => {
  const dport: Rule = { protocol: 'tcp', matches: [{ match: 'port', port: 80 }], target: { target: 'DROP' } };
  const marked: Rule = {
    matches: [{ match: 'mark', value: 0x4000, mask: 0x4000, not: true }],
    target: { target: 'DROP' },
  };
  const from: Rule = { source: { cidr: '10.0.0.0/8', not: true }, matches: [], target: { target: 'DROP' } };
  const rows: [string, 'IPv4' | 'IPv6', Expression[], Rule][] = [
    ['native port', 'IPv4', [meta(16), TCP, payload(2, 2, 2), cmp('\0P'), { name: 'counter' }, drop], dport],
    ['protocol of the header', 'IPv4', [payload(1, 9, 1), TCP, payload(2, 2, 2), cmp('\0P'), drop], dport],
    ['native port, IPv6', 'IPv6', [meta(16), TCP, payload(2, 2, 2), cmp('\0P'), drop], dport],
    ['native mark', 'IPv4', [meta(3), mask(u32Host(0x4000)), cmp(u32Host(0x4000), 1), drop], marked],
    ['cut address', 'IPv4', [payload(1, 12, 1), cmp('\x0a', 1), drop], from],
    ['masked address', 'IPv4', [payload(1, 12, 4), mask('\xff\0\0\0'), cmp('\x0a\0\0\0', 1), drop], from],
    [
      'masked address, IPv6',
      'IPv6',
      [payload(1, 24, 16), mask(`\xff\xfe${'\0'.repeat(14)}`), cmp(ipBytes('fc00::')!)],
      { destination: { cidr: 'fc00::/15', not: false }, matches: [], target: null },
    ],
    [
      'a padded name of an interface',
      'IPv4',
      [meta(6), cmp('eth0'.padEnd(16, '\0')), drop],
      { input: { name: 'eth0', prefix: false, not: false }, matches: [], target: { target: 'DROP' } },
    ],
    [
      'statistic without the second value',
      'IPv4',
      [
        {
          name: 'match',
          extension: 'statistic',
          revision: 0,
          info: matches.statistic.write(5).slice(0, 8).padEnd(24, '\0'),
        },
      ],
      { matches: [{ match: 'statistic', threshold: 5 }], target: null },
    ],
  ];
  for (const [name, family, expressions, rule] of rows) {
    const decoded = decodeRule(family, expressions);
    t.equal(decoded && ruleKey(decoded), ruleKey(rule), name);
  }
});

t.test('what the model cannot express', async (t) => {
  const match = (extension: string, revision: number, info: string): Expression => ({
    name: 'match',
    extension,
    revision,
    info,
  });
  const tcp80 = matches.tcp.write(80);
  const rows: [string, Expression[]][] = [
    ['another match', [match('multiport', 1, tcp80), drop]],
    ['another revision', [meta(16), TCP, match('tcp', 1, tcp80), drop]],
    ['a match of a protocol that the rule does not have', [meta(16), cmp('\x11'), match('tcp', 0, tcp80), drop]],
    ['a port without a protocol', [payload(2, 2, 2), cmp('\0P'), drop]],
    ['a source port', [meta(16), TCP, payload(2, 0, 2), cmp('\0P'), drop]],
    ['not a port', [meta(16), TCP, payload(2, 2, 2), cmp('\0P', 1), drop]],
    ['a range', [meta(16), TCP, payload(2, 2, 2), { name: 'cmp', op: 3, sreg: REG32, data: '\0P' }, drop]],
    ['not a protocol', [meta(16), cmp('\x06', 1), drop]],
    ['another protocol', [meta(16), cmp('\x01'), drop]],
    ['two sources', [payload(1, 12, 4), cmp('abcd'), payload(1, 12, 4), cmp('abcd'), drop]],
    ['a mask with holes', [payload(1, 12, 4), mask('\xff\0\xff\0'), cmp('a\0b\0'), drop]],
    ['bits outside of the mask', [payload(1, 12, 4), mask('\xff\0\0\0'), cmp('a\0b\0'), drop]],
    ['a length that does not fit', [payload(1, 12, 4), cmp('abc'), drop]],
    ['the time to live', [payload(1, 8, 1), cmp('a'), drop]],
    ['an interface with too long a name', [meta(6), cmp('x'.repeat(16)), drop]],
    ['an interface whose name is no text', [meta(6), cmp('\xff\0'), drop]],
    ['an outgoing interface', [meta(7), cmp('eth0\0'), drop]],
    ['a comparison of nothing', [cmp('a'), drop]],
    ['another register', [payload(1, 12, 4), { name: 'cmp', op: 0, sreg: 12, data: 'abcd' }, drop]],
    ['a goto', [{ name: 'verdict', code: -4, chain: 'x' }]],
    ['something behind the verdict', [drop, { name: 'counter' }]],
    ['another target', [{ name: 'target', extension: 'LOG', revision: 0, info: '' }]],
    ['a set', [payload(1, 12, 4), { name: 'lookup', set: 's', sreg: REG32, dreg: null, inverted: false }, drop]],
    ['what nobody knows', [{ name: 'other', kernelName: 'quota', bytes: '' }]],
  ];
  for (const [name, expressions] of rows) t.equal(decodeRule('IPv4', expressions), null, name);
  t.equal(decodeRule('IPv6', [payload(1, 9, 1), TCP, drop]), null, 'IPv6 has no protocol there');
});

t.test('rules that cannot be encoded', async (t) => {
  const rows: [string, Rule, RegExp][] = [
    ['wrong family', { source: { cidr: 'fd00::/8', not: false }, matches: [], target: null }, /fd00::\/8/],
    ['no CIDR', { source: { cidr: 'x', not: false }, matches: [], target: null }, /x is no CIDR/],
    ['matches nothing', { destination: { cidr: '0.0.0.0/0', not: true }, matches: [], target: null }, /nothing/],
    ['port of no protocol', { matches: [{ match: 'port', port: 1 }], target: null }, /protocol/],
    [
      'interface',
      { input: { name: 'x'.repeat(16), prefix: false, not: false }, matches: [], target: null },
      /15 bytes/,
    ],
    ['no interface', { input: { name: '', prefix: false, not: false }, matches: [], target: null }, /name/],
  ];
  for (const [name, rule, message] of rows) {
    t.throws(() => encodeRule('IPv4', rule), { name: 'RangeError', message }, name);
  }
  const everything: Rule = {
    source: { cidr: '0.0.0.0/0', not: false },
    input: { name: '', prefix: true, not: false },
    matches: [],
    target: null,
  };
  t.strictSame(encodeRule('IPv4', everything), [{ name: 'counter' }], 'what matches everything is left out');
});

t.test('garbage is opaque or a rule, never an error', async (t) => {
  const random = seededRandom(seed + 1);
  let rules = 0;
  for (let i = 0; i < 4000; i++) {
    const family = FAMILIES[i & 1]!;
    const expressions = encodeRule(family, randomRule(random, family));
    // Some bytes of one expression differ, and sometimes two expressions are exchanged or one is lost.
    const at = random(expressions.length);
    const e = { ...expressions[at]! } as Record<string, unknown>;
    for (const [field, value] of Object.entries(e)) {
      if (field === 'name' || random(2) === 0) continue;
      if (typeof value === 'number') e[field] = random(2) ? random(20) : random(2 ** 31);
      if (typeof value === 'string')
        e[field] = value.slice(0, random(value.length + 2)) + String.fromCharCode(random(256)).repeat(random(3));
    }
    expressions[at] = e as unknown as Expression;
    if (random(4) === 0) expressions.splice(random(expressions.length), 1, expressions[random(expressions.length)]!);
    if (random(4) === 0) expressions.splice(random(expressions.length), 1);
    const rule = decodeRule(family, expressions);
    if (rule === null) continue;
    rules++;
    // Whatever was understood can be written, and means the same then.
    const again = decodeRule(family, encodeRule(family, rule));
    if (again === null || ruleKey(again) !== ruleKey(rule)) t.strictSame(again, rule, `SEED=${seed}, garbage ${i}`);
  }
  t.ok(rules > 100 && rules < 3900, `${rules} of 4000 were rules`);
});

t.test('random bytes as expressions', async (t) => {
  const random = seededRandom(seed + 2);
  let failures = 0;
  for (let i = 0; i < 3000; i++) {
    const family = FAMILIES[i & 1]!;
    const writer = new MessageWriter();
    const batch = new Batch({ writer, nextSeq: () => 1, table: '' });
    const at = writer.length + 20 + 8 + 8 + 4;
    batch.addRule(family, 'x', encodeRule(family, randomRule(random, family)));
    for (let n = 1 + random(6); n > 0; n--) writer.buffer[at + random(writer.length - at)] = random(256);
    try {
      decodeRule(family, readExpressions(writer.buffer, at, writer.length));
    } catch (error) {
      failures++;
      if (!(error instanceof RangeError)) throw error;
    }
  }
  t.ok(failures < 3000, `${failures} of 3000 had lengths that do not fit`);
});
