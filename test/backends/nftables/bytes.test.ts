// Bytes that must not change: what nft needs to print a set, a whole message, words.
import t from 'tap';
import { fieldsText, indexBytes, portBytes, protocolBytes, wordText } from '../../../backends/nft-table/fields.ts';
import { TABLE_USERDATA } from '../../../backends/nft-table/layout.ts';
import {
  ActionWords,
  chainName,
  EXTERNAL_LOCAL_WORD,
  NODEPORT_LOCAL_WORD,
  parseChainName,
  wordCount,
  wordKind,
} from '../../../backends/nftables/actions.ts';
import { affinityWord } from '../../../backends/nftables/elements.ts';
import { SETS, type SetName, TABLE } from '../../../backends/nftables/schema.ts';
import { type Family, ipBytes } from '../../../native/ip.ts';
import { MessageWriter } from '../../../native/netlink/message.ts';
import { Batch, commentText, commentUserdata } from '../../../native/nftables/batch.ts';
import { u32FromHost, u32Host } from '../../../native/nftables/constants.ts';

const hex = (bytes: string): string => Buffer.from(bytes, 'latin1').toString('hex');

t.test('userdata of sets', async (t) => {
  // From `nft --debug=netlink` for sets declared with `typeof`.
  const expected: Partial<Record<SetName, string>> = {
    'cluster-ips': '0004020000000314000407000000010c00040c00000001040c000000060400000000',
    actions: '000401000000010400000000030e0004090000000106000402000000060400000000',
    services:
      '000400000000010401000000034400040d000000013c0014000407000000010c00040c00000001040c000000010e000409000000010600' +
      '04100000000214000407000000010c00040b000000010402000000040e0004090000000106000402000000060400000000',
    endpoints:
      '000400000000010400000000036000040d00000001580014000407000000010c00040c00000001040c000000010e000409000000010600' +
      '04100000000214000407000000010c00040b000000010402000000031a000417000000011200040100000001040200000002040000000004' +
      '3400040d000000012c0014000407000000010c00040c00000001040c0000000114000407000000010c00040b000000010402000000060400000000',
  };
  for (const [set, bytes] of Object.entries(expected)) t.equal(hex(SETS.IPv4[set as SetName].userdata), bytes, set);
  t.equal(hex(TABLE_USERDATA), `0013${Buffer.from('kubeplumb schema=1').toString('hex')}00`);
});

t.test('types and lengths of keys and data', async (t) => {
  const shape = (family: Family, set: SetName): unknown[] => {
    const { keyType, keyLength, dataType, dataLength, flags } = SETS[family][set];
    return [keyType, keyLength, dataType, dataLength, flags];
  };
  t.same(shape('IPv4', 'services'), [0x730d, 12, 23, 4, 8]);
  t.same(shape('IPv6', 'services'), [0x830d, 24, 23, 4, 8]);
  t.same(shape('IPv4', 'endpoints'), [(0x730d << 6) | 4, 16, (7 << 6) | 13, 8, 8]);
  t.same(shape('IPv6', 'endpoints'), [(0x830d << 6) | 4, 28, (8 << 6) | 13, 20, 8]);
  t.same(shape('IPv4', 'affinity'), [(23 << 6) | 7, 8, 23, 4, 8 | 16 | 32]);
  t.same(shape('IPv6', 'hairpin').slice(1), [40, undefined, undefined, 0]);
  t.same(shape('IPv4', 'actions'), [23, 4, 0xffffff00, undefined, 8]);
  t.same(SETS.IPv4['source-allowed'].concat, [4, 1, 2, 4]);
  t.same(SETS.IPv6['source-allowed'].concat, [16, 1, 2, 16]);
});

t.test('a whole message: one element of endpoints', async (t) => {
  // 10.96.0.1 . tcp . 80 . 2 : 10.128.0.3 . 8080
  const writer = new MessageWriter();
  let seq = 1;
  const batch = new Batch({ writer, nextSeq: () => ++seq, table: TABLE });
  const before = writer.length;
  const key = ipBytes('10.96.0.1')! + protocolBytes('TCP') + portBytes(80) + indexBytes(2);
  const data = ipBytes('10.128.0.3')! + portBytes(8080);
  batch.addElements('IPv4', SETS.IPv4.endpoints, [{ key, data }]);
  t.equal(
    writer.bytes().subarray(before).toString('hex'),
    '640000000c0a01040300000000000000020000000e0001006b756265706c756d620000000e000200656e64706f696e7473000000' +
      '300003802c00018018000180140001000a60000106000000005000000200000010000280 0c000100 0a8000031f900000'.replaceAll(
        ' ',
        '',
      ),
  );
  t.same(batch.counts, { added: 1, deleted: 0, objects: 0 });
});

t.test('a batch asks for an acknowledgement in its last message only', async (t) => {
  let seq = 0;
  const batch = new Batch({ writer: new MessageWriter(), nextSeq: () => ++seq, table: TABLE });
  batch.addChain('IPv4', 'a');
  batch.addChain('IPv6', 'b');
  const bytes = batch.finish();
  t.equal(bytes, bytes);
  const flags: number[] = [];
  for (let at = 0; at < bytes.length; at += bytes.readUInt32LE(at)) flags.push(bytes.readUInt16LE(at + 6) & 4);
  t.same(flags, [0, 0, 4, 0]);
});

t.test('many elements are split into messages below the limit of an attribute', async (t) => {
  let seq = 0;
  const writer = new MessageWriter();
  const batch = new Batch({ writer, nextSeq: () => ++seq, table: TABLE });
  batch.deleteElements(
    'IPv6',
    SETS.IPv6.endpoints,
    Array.from({ length: 5000 }, (_, i) => ({
      key: ipBytes('fd00::1')! + protocolBytes('TCP') + portBytes(1) + indexBytes(i),
    })),
  );
  t.equal(batch.counts.deleted, 5000);
  t.ok(batch.subjects.length > 1);
  const starts = [...batch.subjects.map((subject) => subject.at), writer.length];
  for (let i = 1; i < starts.length; i++) t.ok(starts[i]! - starts[i - 1]! < 0xffff, `message ${i}`);
});

t.test('comments', async (t) => {
  t.equal(hex(commentUserdata('a/b:c')), '0006612f623a6300');
  t.equal(commentText(commentUserdata('shop/web:http')), 'shop/web:http');
  const long = commentText(commentUserdata('x'.repeat(300)))!;
  t.equal(long.length, 127, 'nft refuses longer ones');
});

t.test('action words', async (t) => {
  const words = new ActionWords();
  const action = (prefix: 'lb' | 'np-mq', count: number, affinitySeconds: number | null = null) =>
    ({ prefix, count, affinitySeconds }) as const;
  t.equal(wordText(words.word(action('lb', 5))), '8001:5');
  t.equal(wordText(words.word(action('np-mq', 65_535))), '8006:ffff');
  t.equal(wordText(EXTERNAL_LOCAL_WORD), '8010:0');
  t.equal(wordText(NODEPORT_LOCAL_WORD), '8011:0');
  t.throws(() => words.word(action('lb', 3, 300)), /has not been reserved/);
  t.ok(words.reserve(300));
  t.equal(wordText(words.word(action('lb', 3, 300))), '8100:3');
  t.equal(wordText(words.word(action('np-mq', 3, 300))), '8104:3');
  t.equal(wordText(words.word(action('lb', 4, 300))), '8100:4', 'the kind is numbered, not each chain');
  for (const a of [action('lb', 5), action('np-mq', 9, 300), action('lb', 1, 300)]) {
    t.same(words.action(words.word(a)), a, chainName(a));
    t.same(parseChainName(chainName(a)), a);
  }
  t.equal(words.action(EXTERNAL_LOCAL_WORD), null);
  t.equal(words.action(0x81ff0001), null, 'a number nobody has given out');
  t.equal(parseChainName('lb-'), null);
  t.equal(parseChainName('lb-0'), null, 'no endpoint to choose');
  t.equal(parseChainName('lb-65536'), null, 'more than a word can count');
  t.equal(parseChainName('lb-sa0-2'), null);
  t.equal(parseChainName('sh-4'), null);

  const restarted = new ActionWords();
  restarted.learn(words.word(action('np-mq', 3, 300)), 'np-mq-sa300-3');
  restarted.learn(0x80ff0001, 'lb-sa77-1'); // a number that cannot be ours
  t.ok(restarted.reserve(300));
  t.equal(wordText(restarted.word(action('np-mq', 7, 300))), '8104:7');
  t.equal(wordText(restarted.word(action('lb', 7, 300))), '8105:7', 'numbers go on behind those learned');
  let timeouts = 1;
  while (restarted.reserve(1000 + timeouts)) timeouts++;
  t.ok(timeouts > 5000, `${timeouts} timeouts can be numbered`);
  t.ok(restarted.reserve(300), 'one that has numbers needs none');
  t.equal(wordKind(restarted.word(action('np-mq', 7, 1001))) <= 0x7fff, true);
  t.equal(wordKind(0x81020007), 0x102);
  t.equal(wordCount(0x81020007), 7);
});

t.test('affinity words', async (t) => {
  t.equal(u32FromHost(affinityWord(1, 0)), 0x80002000);
  t.equal(u32FromHost(affinityWord(0x3ffff, 0x1fff)), 0xffffffff);
  t.equal(u32FromHost(affinityWord(5, 3)) & 0xffffe000, 0x8000a000 | 0, 'the slot can be masked out');
});

t.test('fields as nft prints them', async (t) => {
  const bytes = ipBytes('fd00::1')! + protocolBytes('SCTP') + portBytes(65_535) + indexBytes(300);
  t.same(fieldsText(bytes, ['daddr', 'proto', 'port', 'index'], 'IPv6'), ['fd00::1', 'sctp', '65535', '300']);
  t.same(fieldsText(`\x11\0\0\0${u32Host(0x80010005)}`, ['proto', 'word'], 'IPv4'), ['udp', '8001:5']);
});
