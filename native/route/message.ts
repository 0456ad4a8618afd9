// Links, addresses and routes in rtnetlink's form (include/uapi/linux/rtnetlink.h, if_addr.h, if_link.h): pure coding.
// struct ifaddrmsg { u8 family; u8 prefixlen; u8 flags; u8 scope; u32 index }
// struct rtmsg { u8 family; u8 dst_len; u8 src_len; u8 tos; u8 table; u8 protocol; u8 scope; u8 type; u32 flags }
// struct ifinfomsg { u8 family; u8 pad; u16 type; s32 index; u32 flags; u32 change }
import { type Family, ipText } from '../ip.ts';
import { Attributes } from '../netlink/message.ts';

export const IFADDRMSG_LENGTH = 8;
export const IFINFOMSG_LENGTH = 16;
const AF: ReadonlyMap<number, Family> = new Map([
  [2, 'IPv4'],
  [10, 'IPv6'],
]);
export const IFA_ADDRESS = 1;
export const IFA_LOCAL = 2;
export const IFA_CACHEINFO = 6;
/** struct ifa_cacheinfo { u32 preferred, valid, cstamp, tstamp }, seconds: valid for ever, and deprecated. */
export const NEVER_PREFERRED = '\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\0';
const IFA_FLAGS = 8;
export const IFLA_IFNAME = 3;
export const IFLA_LINKINFO = 18;
export const IFLA_INFO_KIND = 1;

/** IFF_*: what a link is. */
export const LINK_FLAG = { up: 0x1, loopback: 0x8, pointToPoint: 0x10 } as const;
/** IFA_F_*: what an address is. */
export const ADDRESS_FLAG = { secondary: 0x1, noDad: 0x2, deprecated: 0x20, tentative: 0x40, permanent: 0x80 } as const;

export type Scope = 'global' | 'site' | 'link' | 'host' | 'nowhere';
const SCOPES: ReadonlyMap<number, Scope> = new Map([
  [0, 'global'],
  [200, 'site'],
  [253, 'link'],
  [254, 'host'],
  [255, 'nowhere'],
]);

export interface Link {
  readonly index: number;
  readonly name: string;
  /** LINK_FLAG bits, among others. */
  readonly flags: number;
}

/** An address before its link's name is known. */
export interface IndexedAddress {
  readonly index: number;
  /** Canonical text. */
  readonly ip: string;
  readonly prefix: number;
  readonly family: Family;
  readonly scope: Scope;
  /** ADDRESS_FLAG bits, among others. */
  readonly flags: number;
}

const little = (bytes: string): number =>
  (bytes.charCodeAt(0) | (bytes.charCodeAt(1) << 8) | (bytes.charCodeAt(2) << 16) | (bytes.charCodeAt(3) << 24)) >>> 0;

/** An ifaddrmsg of scope global, for MessageWriter.raw. `flags` are ADDRESS_FLAG bits below 0x100. */
export function addressHeader(family: Family, index: number, prefix = 0, flags = 0): string {
  const bytes = [index & 255, (index >> 8) & 255, (index >> 16) & 255, index >>> 24];
  return String.fromCharCode(family === 'IPv4' ? 2 : 10, prefix, flags, 0, ...bytes);
}

export const RTA_DST = 1;
export const RTA_OIF = 4;
export const RTA_PREFSRC = 7;
const RT_TABLE_LOCAL = 255;
/** Who made a route: the administrator, or anybody, when one is to be deleted. */
export const ROUTE_PROTOCOL = { any: 0, static: 4 } as const;
const RTN_LOCAL = 2;
const RT_SCOPE_HOST = 254;

/** An rtmsg of a local route to one address, for MessageWriter.raw. `protocol` is one of ROUTE_PROTOCOL. */
export function localRouteHeader(family: Family, protocol: number): string {
  const [af, length, scope] = family === 'IPv4' ? [2, 32, RT_SCOPE_HOST] : [10, 128, 0];
  return String.fromCharCode(af, length, 0, 0, RT_TABLE_LOCAL, protocol, scope, RTN_LOCAL, 0, 0, 0, 0);
}

/** Reads the payload of RTM_NEWLINK. @throws RangeError when a length does not fit. */
export function readLink(payload: Buffer): Link {
  if (payload.length < IFINFOMSG_LENGTH) throw new RangeError(`rtnetlink link of ${payload.length} bytes`);
  const name = new Attributes(payload, IFINFOMSG_LENGTH, payload.length).text(IFLA_IFNAME) ?? '';
  return { index: payload.readInt32LE(4), name, flags: payload.readUInt32LE(8) };
}

/**
 * Reads the payload of RTM_NEWADDR; null for another address family than IPv4 and IPv6.
 * @throws RangeError when a length does not fit.
 */
export function readAddress(payload: Buffer): IndexedAddress | null {
  if (payload.length < IFADDRMSG_LENGTH) throw new RangeError(`rtnetlink address of ${payload.length} bytes`);
  const family = AF.get(payload[0]!);
  if (family === undefined) return null;
  const attributes = new Attributes(payload, IFADDRMSG_LENGTH, payload.length);
  // On a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL, where there is one, is always ours.
  const bytes = attributes.bytes(IFA_LOCAL) ?? attributes.bytes(IFA_ADDRESS);
  if (bytes === undefined) return null;
  if (bytes.length !== (family === 'IPv4' ? 4 : 16)) {
    throw new RangeError(`rtnetlink ${family} address of ${bytes.length} bytes`);
  }
  const flags = attributes.bytes(IFA_FLAGS);
  return {
    index: payload.readUInt32LE(4),
    ip: ipText(bytes),
    prefix: payload[1]!,
    family,
    scope: SCOPES.get(payload[3]!) ?? 'global',
    // The header holds the low byte only.
    flags: flags?.length === 4 ? little(flags) : payload[2]!,
  };
}
