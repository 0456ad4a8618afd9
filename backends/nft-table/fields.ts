// Fields of set keys and map data: their bytes in a register, their type for nft, and how nft is told to print them.
// Every field of a concatenation starts on a 4-byte boundary. Userdata is libnftnl's: TLVs of u8 type and u8 length.
import { type Family, ipText } from '../../native/ip.ts';
import { u32FromHost, u32Host } from '../../native/nftables/constants.ts';
import type { Protocol } from '../service-plan.ts';

export type Field = 'daddr' | 'saddr' | 'proto' | 'port' | 'index' | 'word';

/** IP protocol numbers. */
export const PROTOCOL_NUMBER: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };

export const addressLength = (family: Family): 4 | 16 => (family === 'IPv4' ? 4 : 16);
/** Bytes of a field's value. */
export function fieldWidth(field: Field, family: Family): number {
  if (field === 'daddr' || field === 'saddr') return addressLength(family);
  return field === 'proto' ? 1 : field === 'port' ? 2 : 4;
}
/** Bytes of a field in a concatenation, padding included. */
export const fieldLength = (field: Field, family: Family): number => Math.max(4, fieldWidth(field, family));
/** Bytes of a key or of data; a field that stands alone has no padding. */
export const fieldsLength = (fields: readonly Field[], family: Family): number =>
  fields.length === 1 ? fieldWidth(fields[0]!, family) : fields.reduce((sum, f) => sum + fieldLength(f, family), 0);

export const protocolBytes = (protocol: Protocol): string => `${String.fromCharCode(PROTOCOL_NUMBER[protocol])}\0\0\0`;
export const portBytes = (port: number): string => String.fromCharCode(port >> 8, port & 255, 0, 0);
export const portNumber = (bytes: string): number => (bytes.charCodeAt(0) << 8) | bytes.charCodeAt(1);

const smallIndices: string[] = [];
/** An index or word as register bytes. */
export function indexBytes(index: number): string {
  return (smallIndices[index] ??= u32Host(index));
}

/** nft's id of a field's data type (enum datatypes in nftables' datatype.h). */
function typeId(field: Field, family: Family): number {
  switch (field) {
    case 'daddr':
    case 'saddr':
      return family === 'IPv4' ? 7 : 8;
    case 'proto':
      return 12;
    case 'port':
      return 13;
    case 'index':
      return 4;
    case 'word':
      return 23;
  }
}

/** NFTA_SET_KEY_TYPE / NFTA_SET_DATA_TYPE. */
export const concatType = (fields: readonly Field[], family: Family): number =>
  fields.reduce((type, field) => (type << 6) | typeId(field, family), 0);

const tlv = (type: number, value: string): string => String.fromCharCode(type, value.length) + value;
const tlvU32 = (type: number, value: number): string => tlv(type, u32Host(value));

/** A typeof expression: TLV 0 = expression id, TLV 1 = its own TLVs. */
const typeofTlv = (expression: number, nested: string): string => tlvU32(0, expression) + tlv(1, nested);

function fieldTypeof(field: Field, family: Family): string {
  const PAYLOAD = 7;
  const META = 9;
  const NUMGEN = 23;
  const network = family === 'IPv4' ? 12 : 13;
  switch (field) {
    case 'daddr':
      return typeofTlv(PAYLOAD, tlvU32(0, network) + tlvU32(1, family === 'IPv4' ? 12 : 9));
    case 'saddr':
      return typeofTlv(PAYLOAD, tlvU32(0, network) + tlvU32(1, family === 'IPv4' ? 11 : 8));
    case 'port':
      return typeofTlv(PAYLOAD, tlvU32(0, 11) + tlvU32(1, 2));
    case 'proto':
      return typeofTlv(META, tlvU32(0, 16));
    case 'word':
      return typeofTlv(META, tlvU32(0, 2));
    case 'index':
      return typeofTlv(NUMGEN, tlvU32(0, 1) + tlvU32(1, 2) + tlvU32(2, 0));
  }
}

function fieldsTypeof(fields: readonly Field[], family: Family): string {
  const CONCAT = 13;
  if (fields.length === 1) return fieldTypeof(fields[0]!, family);
  return typeofTlv(CONCAT, fields.map((field, i) => tlv(i, fieldTypeof(field, family))).join(''));
}

/** NFTA_SET_USERDATA of a set with these key fields and data fields ('verdict' for a verdict map, null for a set). */
export function setUserdata(key: readonly Field[], data: readonly Field[] | 'verdict' | null, family: Family): string {
  const HOST = 1;
  const BIG_ENDIAN = 2;
  const order = (fields: readonly Field[]): number =>
    fields.length > 1 ? 0 : fields[0] === 'word' || fields[0] === 'index' ? HOST : BIG_ENDIAN;
  let out = tlvU32(0, order(key));
  if (data !== null) out += tlvU32(1, data !== 'verdict' && order(data) === HOST ? HOST : 0);
  out += tlv(3, fieldsTypeof(key, family));
  if (data !== null && data !== 'verdict') out += tlv(4, fieldsTypeof(data, family));
  return out + tlvU32(6, 0);
}

/** A word as nft prints it (a tc class): `8001:5`. */
export function wordText(word: number): string {
  return `${(word >>> 16).toString(16)}:${(word & 0xffff).toString(16)}`;
}

/** The fields in `bytes` as nft prints them. */
export function fieldsText(bytes: string, fields: readonly Field[], family: Family): string[] {
  let at = 0;
  return fields.map((field) => {
    const length = fieldLength(field, family);
    const value = bytes.slice(at, at + length);
    at += length;
    switch (field) {
      case 'daddr':
      case 'saddr':
        return ipText(value);
      case 'proto': {
        const number = value.charCodeAt(0);
        return number === 6 ? 'tcp' : number === 17 ? 'udp' : number === 132 ? 'sctp' : String(number);
      }
      case 'port':
        return String(portNumber(value));
      case 'index':
        return String(u32FromHost(value));
      default:
        return wordText(u32FromHost(value));
    }
  });
}
