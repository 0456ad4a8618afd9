// Netlink messages: what the writer writes the readers read; what does not fit is a RangeError.
import t from 'tap';
import { decodeAcknowledgement, errnoName, NetlinkError } from '../../native/netlink/error.ts';
import {
  Attributes,
  eachAttribute,
  HEADER_LENGTH,
  MessageWriter,
  messages,
  NLM_F_ACK_TLVS,
  NLMSG_ERROR,
} from '../../native/netlink/message.ts';

/** Two messages with every kind of attribute, written into a buffer that has to grow. */
function sample(): Buffer {
  const writer = new MessageWriter(32);
  writer.startMessage(0x0a01, 0x405, 7);
  writer.raw('\x02\0\0\0');
  writer.attr(1, 'abc\xff\0');
  writer.attrString(2, 'grün');
  writer.attrU32(3, 0xfffffffe);
  writer.attrU64(4, 0x0123456789abcdefn);
  const outer = writer.nest(5);
  writer.attrU32(1, 10);
  const inner = writer.nest(2);
  for (let i = 0; i < 50; i++) writer.attrU32(1, i);
  writer.endNest(inner);
  writer.endNest(outer);
  writer.attr(6, '');
  writer.endMessage();
  writer.startMessage(0x0a02, 1, 8);
  writer.endMessage();
  return Buffer.from(writer.bytes());
}

t.test('round trip', async (t) => {
  const [first, second, ...more] = messages(sample());
  t.match(first, { type: 0x0a01, flags: 0x405, seq: 7, portId: 0, start: HEADER_LENGTH });
  t.match(second, { type: 0x0a02, flags: 1, seq: 8 });
  t.equal(second!.end - second!.start, 0);
  t.strictSame(more, []);

  const attributes = new Attributes(first!.buffer, first!.start + 4, first!.end);
  t.equal(attributes.bytes(1), 'abc\xff\0');
  t.equal(attributes.text(1), 'abc�', 'text ends at the first NUL');
  t.equal(attributes.text(2), 'grün');
  t.equal(attributes.u32(3), 0xfffffffe);
  t.equal(attributes.u64(4), 0x0123456789abcdefn);
  t.equal(attributes.bytes(6), '');
  t.equal(attributes.has(7), false);
  for (const read of ['bytes', 'text', 'u32', 'u64', 'nested', 'range'] as const)
    t.equal(attributes[read](7), undefined);
  const outer = attributes.nested(5)!;
  t.equal(outer.u32(1), 10);
  const seen: number[] = [];
  eachAttribute(first!.buffer, ...outer.range(2)!, (_, start) => seen.push(first!.buffer.readUInt32BE(start)));
  t.strictSame(seen, [...Array(50).keys()]);
});

t.test('the bytes are those of the kernel header', async (t) => {
  const writer = new MessageWriter();
  writer.startMessage(0x0a01, 5, 258);
  writer.attr(1, 'x');
  const nest = writer.nest(2);
  writer.attrU32(3, 1);
  writer.endNest(nest);
  writer.endMessage();
  t.equal(
    writer.bytes().toString('hex'),
    '24000000' + '010a0500' + '02010000' + '00000000' + '05000100' + '78000000' + '0c000280' + '08000300' + '00000001',
  );
  writer.reset();
  t.equal(writer.bytes().length, 0);
});

t.test('messages that do not fit', async (t) => {
  const sized = (length: number): Buffer => {
    const buffer = Buffer.alloc(HEADER_LENGTH);
    buffer.writeUInt32LE(length);
    return buffer;
  };
  for (const length of [0, 15, 17, 0xffffffff]) t.throws(() => [...messages(sized(length))], RangeError, `${length}`);
  t.equal([...messages(sized(16))].length, 1);
  t.strictSame([...messages(Buffer.alloc(15))], [], 'less than a header is no message');
});

t.test('attributes that do not fit', async (t) => {
  const sized = (length: number): Buffer => {
    const buffer = Buffer.alloc(8);
    buffer.writeUInt16LE(length);
    return buffer;
  };
  for (const length of [0, 3, 9, 0xffff]) t.throws(() => new Attributes(sized(length), 0, 8), RangeError, `${length}`);
  const short = new Attributes(sized(6), 0, 8);
  t.equal(short.bytes(0), '\0\0');
});

t.test('acknowledgements', async (t) => {
  const header = (flags: number, length: number): Buffer => {
    const buffer = Buffer.alloc(HEADER_LENGTH);
    buffer.writeUInt32LE(length);
    buffer.writeUInt16LE(NLMSG_ERROR, 4);
    buffer.writeUInt16LE(flags, 6);
    buffer.writeUInt32LE(9, 8);
    return buffer;
  };
  const error = Buffer.alloc(20); // errno and the header of the request, 24 bytes long
  error.writeInt32LE(-17, 0);
  error.writeUInt32LE(24, 4);
  const extended = new MessageWriter();
  extended.attrString(1, 'element exists');
  extended.attr(2, '\x30\0\0\0');
  const tlvs = Buffer.from(extended.bytes());
  const decode = (...parts: Buffer[]) => decodeAcknowledgement([...messages(Buffer.concat(parts))][0]!);

  t.strictSame(decode(header(0, 36), error), { seq: 9, errno: 17, text: '', offset: null });
  t.strictSame(decode(header(0, 36), Buffer.alloc(20)), { seq: 9, errno: 0, text: '', offset: null });
  const capped = decode(header(NLM_F_ACK_TLVS | 0x100, 36 + tlvs.length), error, tlvs);
  t.strictSame(capped, { seq: 9, errno: 17, text: 'element exists', offset: 0x30 });
  const whole = decode(header(NLM_F_ACK_TLVS, 44 + tlvs.length), error, Buffer.alloc(8), tlvs);
  t.strictSame(whole, capped, 'the request comes back whole');
});

t.test('errors name the request and the code', async (t) => {
  const error = new NetlinkError('new set', 17, 'element exists', 48);
  t.equal(error.message, 'new set: EEXIST (element exists)');
  t.match(error, { code: 'EEXIST', errno: 17, offset: 48 });
  t.equal(errnoName(105), 'ENOBUFS');
  t.equal(errnoName(9999), 'errno 9999');
});

t.test('damaged input is read or is a RangeError, and reading ends', async (t) => {
  const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
  t.comment(`FUZZ_SEED=${seed}`);
  let state = seed;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const good = sample();
  const walk = (buffer: Buffer, start: number, end: number, depth: number): void => {
    eachAttribute(buffer, start, end, (type, from, to) => {
      if (from > to || to > buffer.length) throw new Error(`attribute ${type} outside of the buffer`);
      if (type === (depth === 0 ? 5 : 2)) walk(buffer, from, to, depth + 1);
    });
  };
  let refused = 0;
  for (let i = 0; i < 20_000; i++) {
    let buffer = Buffer.from(good);
    if (random(3) === 0) buffer = buffer.subarray(0, random(buffer.length));
    for (let n = random(5); n > 0 && buffer.length > 0; n--) buffer[random(buffer.length)] = random(256);
    try {
      for (const message of messages(buffer)) {
        if (message.type === NLMSG_ERROR) decodeAcknowledgement(message);
        walk(buffer, Math.min(message.start + 4, message.end), message.end, 0);
        const attributes = new Attributes(buffer, Math.min(message.start + 4, message.end), message.end);
        attributes.bytes(1);
        attributes.text(2);
        attributes.u32(3);
        attributes.u64(4);
        attributes.nested(5)?.nested(2);
      }
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      refused++;
    }
  }
  t.ok(refused > 1000, `${refused} of 20000 refused`);
});
