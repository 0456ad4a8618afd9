// Netlink messages and attributes: one growing buffer to write them, and readers that copy nothing.
// struct nlmsghdr { u32 len; u16 type; u16 flags; u32 seq; u32 pid }  struct nlattr { u16 len; u16 type }
// Both in host order (little endian on every platform Node's packages exist for), padded to 4 bytes.

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_ECHO = 0x8;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_DUMP = 0x300;
export const NLM_F_EXCL = 0x200;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;
export const NLM_F_ACK_TLVS = 0x200;

export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const HEADER_LENGTH = 16;

const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

/** Writes messages one after another. Lengths are filled in by endMessage and endNest. */
export class MessageWriter {
  buffer: Buffer;
  length = 0;
  #message = 0;

  constructor(capacity = 4096) {
    this.buffer = Buffer.allocUnsafe(capacity);
  }

  /** What has been written so far; valid until the next write. */
  bytes(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  reset(): void {
    this.length = 0;
  }

  /** Forgets what was written from `length` on, a place where a message began. */
  rewind(length: number): void {
    this.length = length;
  }

  /** Forgets what was written and gives up a buffer that has grown beyond `capacity`. */
  shrink(capacity: number): void {
    this.length = 0;
    if (this.buffer.length > capacity) this.buffer = Buffer.allocUnsafe(capacity);
  }

  startMessage(type: number, flags: number, seq: number): number {
    this.#reserve(HEADER_LENGTH);
    const at = (this.#message = this.length);
    this.buffer.writeUInt32LE(0, at);
    this.buffer.writeUInt16LE(type, at + 4);
    this.buffer.writeUInt16LE(flags, at + 6);
    this.buffer.writeUInt32LE(seq, at + 8);
    this.buffer.writeUInt32LE(0, at + 12);
    this.length += HEADER_LENGTH;
    return at;
  }

  endMessage(): void {
    this.buffer.writeUInt32LE(this.length - this.#message, this.#message);
  }

  /** A fixed header that follows nlmsghdr (nfgenmsg, rtmsg …); `bytes` is a latin1 string, a multiple of 4 long. */
  raw(bytes: string): void {
    this.#reserve(bytes.length);
    this.length += this.buffer.write(bytes, this.length, 'latin1');
  }

  nest(type: number): number {
    this.#reserve(4);
    const at = this.length;
    this.buffer.writeUInt16LE(type | NLA_F_NESTED, at + 2);
    this.length += 4;
    return at;
  }

  endNest(at: number): void {
    this.buffer.writeUInt16LE(this.length - at, at);
  }

  /** `bytes` is a latin1 string. */
  attr(type: number, bytes: string): void {
    const size = bytes.length;
    this.#reserve(size + 8);
    const { buffer } = this;
    const at = this.length;
    buffer.writeUInt16LE(size + 4, at);
    buffer.writeUInt16LE(type, at + 2);
    buffer.write(bytes, at + 4, 'latin1');
    let end = at + 4 + size;
    while ((end & 3) !== 0) buffer[end++] = 0;
    this.length = end;
  }

  /** A NUL-terminated string. */
  attrString(type: number, text: string): void {
    this.attr(type, `${Buffer.from(text, 'utf8').toString('latin1')}\0`);
  }

  /** A 32-bit integer in network order, as nfnetlink has them. */
  attrU32(type: number, value: number): void {
    this.#reserve(8);
    this.buffer.writeUInt16LE(8, this.length);
    this.buffer.writeUInt16LE(type, this.length + 2);
    this.buffer.writeUInt32BE(value >>> 0, this.length + 4);
    this.length += 8;
  }

  /** A 64-bit integer in network order. */
  attrU64(type: number, value: bigint): void {
    this.#reserve(12);
    this.buffer.writeUInt16LE(12, this.length);
    this.buffer.writeUInt16LE(type, this.length + 2);
    this.buffer.writeBigUInt64BE(value, this.length + 4);
    this.length += 12;
  }

  /** A 32-bit integer in host order, as rtnetlink and generic netlink have them. */
  attrHostU32(type: number, value: number): void {
    this.#reserve(8);
    this.buffer.writeUInt16LE(8, this.length);
    this.buffer.writeUInt16LE(type, this.length + 2);
    this.buffer.writeUInt32LE(value >>> 0, this.length + 4);
    this.length += 8;
  }

  /** A 16-bit integer in host order. */
  attrHostU16(type: number, value: number): void {
    this.attr(type, String.fromCharCode(value & 255, value >> 8));
  }

  #reserve(size: number): void {
    if (this.length + size + 8 <= this.buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.length + size + 8));
    this.buffer.copy(grown, 0, 0, this.length);
    this.buffer = grown;
  }
}

/** One message inside a received datagram; `start` is where its payload begins. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly seq: number;
  readonly portId: number;
  readonly buffer: Buffer;
  readonly start: number;
  readonly end: number;
}

/** Splits a datagram. Throws RangeError when a length does not fit. */
export function* messages(buffer: Buffer): Generator<Message> {
  let at = 0;
  while (at + HEADER_LENGTH <= buffer.length) {
    const length = buffer.readUInt32LE(at);
    if (length < HEADER_LENGTH || at + length > buffer.length) {
      throw new RangeError(`netlink message of ${length} bytes at ${at} in a datagram of ${buffer.length}`);
    }
    yield {
      type: buffer.readUInt16LE(at + 4),
      flags: buffer.readUInt16LE(at + 6),
      seq: buffer.readUInt32LE(at + 8),
      portId: buffer.readUInt32LE(at + 12),
      buffer,
      start: at + HEADER_LENGTH,
      end: at + length,
    };
    at += (length + 3) & ~3;
  }
}

/** Calls `visit` for each attribute between start and end: type without flags, and where its value lies. */
export function eachAttribute(
  buffer: Buffer,
  start: number,
  end: number,
  visit: (type: number, start: number, end: number) => void,
): void {
  let at = start;
  while (at + 4 <= end) {
    const length = buffer.readUInt16LE(at);
    if (length < 4 || at + length > end)
      throw new RangeError(`netlink attribute of ${length} bytes at ${at}, end ${end}`);
    visit(buffer.readUInt16LE(at + 2) & NLA_TYPE_MASK, at + 4, at + length);
    at += (length + 3) & ~3;
  }
}

/** Attributes of one level, for small messages: read by type. A repeated attribute keeps its last value. */
export class Attributes {
  readonly buffer: Buffer;
  readonly #at = new Map<number, [number, number]>();

  constructor(buffer: Buffer, start: number, end: number) {
    this.buffer = buffer;
    eachAttribute(buffer, start, end, (type, from, to) => this.#at.set(type, [from, to]));
  }

  has(type: number): boolean {
    return this.#at.has(type);
  }

  /** Value as a latin1 string, or undefined. */
  bytes(type: number): string | undefined {
    const at = this.#at.get(type);
    return at && this.buffer.toString('latin1', at[0], at[1]);
  }

  /** Text up to the first NUL, or undefined. */
  text(type: number): string | undefined {
    const at = this.#at.get(type);
    if (!at) return undefined;
    const nul = this.buffer.indexOf(0, at[0]);
    return this.buffer.toString('utf8', at[0], nul >= 0 && nul < at[1] ? nul : at[1]);
  }

  /** A 32-bit integer in network order, or undefined. */
  u32(type: number): number | undefined {
    const at = this.#at.get(type);
    return at && this.buffer.readUInt32BE(at[0]);
  }

  u64(type: number): bigint | undefined {
    const at = this.#at.get(type);
    return at && this.buffer.readBigUInt64BE(at[0]);
  }

  /** A 16-bit integer in network order, or undefined. */
  u16(type: number): number | undefined {
    const at = this.#at.get(type);
    return at && this.buffer.readUInt16BE(at[0]);
  }

  /** Integers in host order, or undefined. */
  hostU16(type: number): number | undefined {
    const at = this.#at.get(type);
    return at && this.buffer.readUInt16LE(at[0]);
  }

  hostU32(type: number): number | undefined {
    const at = this.#at.get(type);
    return at && this.buffer.readUInt32LE(at[0]);
  }

  hostU64(type: number): bigint | undefined {
    const at = this.#at.get(type);
    return at && this.buffer.readBigUInt64LE(at[0]);
  }

  nested(type: number): Attributes | undefined {
    const at = this.#at.get(type);
    return at && new Attributes(this.buffer, at[0], at[1]);
  }

  /** Where a value lies in the buffer, for lists that are walked with eachAttribute. */
  range(type: number): readonly [number, number] | undefined {
    return this.#at.get(type);
  }
}
