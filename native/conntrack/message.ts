// ctnetlink requests and entries (include/uapi/linux/netfilter/nfnetlink_conntrack.h): pure encoding and decoding.
// struct nfgenmsg { u8 family; u8 version; be16 res_id } comes first; tuples are nested attributes; ports are big endian.
import { type Family, ipBytes, ipText } from '../ip.ts';
import { eachAttribute, type MessageWriter, NLM_F_DUMP, NLM_F_REQUEST } from '../netlink/message.ts';

const SUBSYSTEM = 1 << 8; // NFNL_SUBSYS_CTNETLINK
export const CT_NEW = SUBSYSTEM | 0;
const CT_GET = SUBSYSTEM | 1;
const CT_DELETE = SUBSYSTEM | 2;

export const CTA = { tupleOrig: 1, tupleReply: 2, id: 12, zone: 18, filter: 25 } as const;
export const TUPLE = { ip: 1, proto: 2, zone: 3 } as const;
export const PROTO = { num: 1, srcPort: 2, dstPort: 3 } as const;
const CTA_FILTER_ORIG_FLAGS = 1;
/** Which fields of the tuple CTA_FILTER_ORIG_FLAGS asks to compare; bits of net/netfilter/nf_internals.h. */
const FILTER = { ipDst: 1 << 1, protoNum: 1 << 3, dstPort: 1 << 5 } as const;

const NFPROTO: Readonly<Record<Family, number>> = { IPv4: 2, IPv6: 10 };
export const CTA_IP: Readonly<Record<Family, { readonly src: number; readonly dst: number }>> = {
  IPv4: { src: 1, dst: 2 },
  IPv6: { src: 3, dst: 4 },
};
export const UDP = 17;

/** One direction of a connection; addresses are canonical text. */
export interface Tuple {
  readonly src: string;
  readonly sport: number;
  readonly dst: string;
  readonly dport: number;
}

/** A UDP entry of the connection tracking table. */
export interface UdpEntry {
  readonly family: Family;
  readonly protocol: typeof UDP;
  readonly original: Tuple;
  readonly reply: Tuple;
  /** Zone of the original direction, null for the default zone. */
  readonly zone: number | null;
  /** What the kernel calls this entry; a later one with the same original tuple mostly gets another. */
  readonly id: number | null;
}

/** Which entries a dump asks for. */
export interface UdpFilter {
  readonly family: Family;
  /** Original destination; without `dst` any address, without `dport` any port. */
  readonly dst?: string;
  readonly dport?: number;
}

const be16 = (value: number): string => String.fromCharCode(value >> 8, value & 255);
const le32 = (value: number): string =>
  String.fromCharCode(value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24);
const nfgenmsg = (family: Family): string => String.fromCharCode(NFPROTO[family], 0, 0, 0);

function addressBytes(family: Family, ip: string): string {
  const bytes = ipBytes(ip);
  if (bytes === null || (bytes.length === 4) !== (family === 'IPv4')) {
    throw new RangeError(`conntrack address "${ip}" is not ${family}`);
  }
  return bytes;
}

/** Appends a CTA_TUPLE_* attribute with all fields. */
export function writeTuple(
  writer: MessageWriter,
  type: number,
  family: Family,
  tuple: Tuple,
  protocol: number = UDP,
): void {
  const nest = writer.nest(type);
  const ip = writer.nest(TUPLE.ip);
  writer.attr(CTA_IP[family].src, addressBytes(family, tuple.src));
  writer.attr(CTA_IP[family].dst, addressBytes(family, tuple.dst));
  writer.endNest(ip);
  const proto = writer.nest(TUPLE.proto);
  writer.attr(PROTO.num, String.fromCharCode(protocol));
  writer.attr(PROTO.srcPort, be16(tuple.sport));
  writer.attr(PROTO.dstPort, be16(tuple.dport));
  writer.endNest(proto);
  writer.endNest(nest);
}

/** Starts a message of the subsystem for one family. */
export function startConntrack(writer: MessageWriter, type: number, flags: number, seq: number, family: Family): void {
  writer.startMessage(type, NLM_F_REQUEST | flags, seq);
  writer.raw(nfgenmsg(family));
}

/**
 * A dump request. The kernel compares protocol, port and (IPv4) address itself since 5.8; older ones know only the
 * family and answer with more, so the reader compares again. The IPv6 address is never asked for: kernels have its
 * comparison the wrong way round and leave out exactly the wanted entries.
 */
export function writeDump(writer: MessageWriter, seq: number, filter: UdpFilter): void {
  startConntrack(writer, CT_GET, NLM_F_DUMP, seq, filter.family);
  const byAddress = filter.dst !== undefined && filter.family === 'IPv4';
  let flags: number = FILTER.protoNum;
  const tuple = writer.nest(CTA.tupleOrig);
  if (filter.dst !== undefined && byAddress) {
    flags |= FILTER.ipDst;
    const ip = writer.nest(TUPLE.ip);
    writer.attr(CTA_IP.IPv4.dst, addressBytes('IPv4', filter.dst));
    writer.endNest(ip);
  }
  const proto = writer.nest(TUPLE.proto);
  writer.attr(PROTO.num, String.fromCharCode(UDP));
  if (filter.dport !== undefined) {
    flags |= FILTER.dstPort;
    writer.attr(PROTO.dstPort, be16(filter.dport));
  }
  writer.endNest(proto);
  writer.endNest(tuple);
  const nest = writer.nest(CTA.filter);
  writer.attr(CTA_FILTER_ORIG_FLAGS, le32(flags));
  writer.endNest(nest);
  writer.endMessage();
}

/**
 * A deletion: both directions name the entry (S-85). The kernel looks it up by the original one and compares the id,
 * which spares most entries that took the place of a listed one.
 */
export function writeDelete(writer: MessageWriter, flags: number, seq: number, entry: UdpEntry): void {
  startConntrack(writer, CT_DELETE, flags, seq, entry.family);
  writeTuple(writer, CTA.tupleOrig, entry.family, entry.original);
  writeTuple(writer, CTA.tupleReply, entry.family, entry.reply);
  if (entry.zone !== null) writer.attr(CTA.zone, be16(entry.zone));
  if (entry.id !== null) writer.attrU32(CTA.id, entry.id);
  writer.endMessage();
}

interface RawTuple {
  protocol: number;
  src: string;
  sport: number;
  dst: string;
  dport: number;
  zone: number | null;
}

const u16 = (buffer: Buffer, at: number, to: number): number => {
  if (to - at < 2) throw new RangeError(`conntrack attribute of ${to - at} bytes at ${at}, 2 expected`);
  return buffer.readUInt16BE(at);
};

function readTuple(buffer: Buffer, start: number, end: number): RawTuple {
  const out: RawTuple = { protocol: -1, src: '', sport: 0, dst: '', dport: 0, zone: null };
  eachAttribute(buffer, start, end, (type, from, to) => {
    if (type === TUPLE.ip) {
      eachAttribute(buffer, from, to, (field, at, last) => {
        const size = field <= CTA_IP.IPv4.dst ? 4 : 16;
        if (field < 1 || field > CTA_IP.IPv6.dst) return;
        if (last - at !== size) throw new RangeError(`conntrack address of ${last - at} bytes at ${at}`);
        const bytes = buffer.toString('latin1', at, last);
        if (field === CTA_IP.IPv4.src || field === CTA_IP.IPv6.src) out.src = bytes;
        else out.dst = bytes;
      });
    } else if (type === TUPLE.proto) {
      eachAttribute(buffer, from, to, (field, at, last) => {
        if (field === PROTO.num && last > at) out.protocol = buffer[at]!;
        else if (field === PROTO.srcPort) out.sport = u16(buffer, at, last);
        else if (field === PROTO.dstPort) out.dport = u16(buffer, at, last);
      });
    } else if (type === TUPLE.zone) {
      out.zone = u16(buffer, from, to);
    }
  });
  return out;
}

const tupleText = (raw: RawTuple): Tuple => ({
  src: ipText(raw.src),
  sport: raw.sport,
  dst: ipText(raw.dst),
  dport: raw.dport,
});

/**
 * Makes a decoder of the messages a dump answers with: an entry that fits the filter, or null for any other.
 * @throws RangeError when a length inside the message does not fit.
 */
export function entryReader(filter: UdpFilter): (buffer: Buffer, start: number, end: number) => UdpEntry | null {
  const wanted = filter.dst === undefined ? null : addressBytes(filter.family, filter.dst);
  const length = filter.family === 'IPv4' ? 4 : 16;
  return (buffer, start, end) => {
    let original: RawTuple | null = null;
    let reply: RawTuple | null = null;
    let zone: number | null = null;
    let id: number | null = null;
    if (end - start < 4) throw new RangeError(`conntrack entry of ${end - start} bytes at ${start}`);
    eachAttribute(buffer, start + 4, end, (type, from, to) => {
      if (type === CTA.tupleOrig) original = readTuple(buffer, from, to);
      else if (type === CTA.tupleReply) reply = readTuple(buffer, from, to);
      else if (type === CTA.zone) zone = u16(buffer, from, to);
      else if (type === CTA.id && to - from === 4) id = buffer.readUInt32BE(from);
    });
    // The callbacks assign these; the compiler cannot see it.
    const [one, other] = [original as RawTuple | null, reply as RawTuple | null];
    if (one === null || other === null || one.protocol !== UDP) return null;
    for (const bytes of [one.src, one.dst, other.src, other.dst]) if (bytes.length !== length) return null;
    if (wanted !== null && one.dst !== wanted) return null;
    if (filter.dport !== undefined && one.dport !== filter.dport) return null;
    return {
      family: filter.family,
      protocol: UDP,
      original: tupleText(one),
      reply: tupleText(other),
      zone: zone ?? one.zone,
      id,
    };
  };
}
