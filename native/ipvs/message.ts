// IPVS messages (include/uapi/linux/ip_vs.h): pure encoding and decoding of virtual servers and real servers.
// nlmsghdr, genlmsghdr, then the nest of the virtual server and, for real servers, that of the destination. Integers
// are in host order, ports in network order, addresses 16 bytes of which IPv4 uses the first four.
import { type Family, familyOf, ipBytes, ipText } from '../ip.ts';
import { GENL_HEADER_LENGTH } from '../netlink/generic.ts';
import { Attributes, type Message, type MessageWriter } from '../netlink/message.ts';
import {
  type RealServer,
  type RealServerState,
  SERVER_FLAG,
  type ServerId,
  type TransportProtocol,
  type VirtualServer,
} from './objects.ts';

export const IPVS_FAMILY = 'IPVS';
/** IPVS_CMD_*. */
export const COMMAND = {
  newServer: 1,
  setServer: 2,
  deleteServer: 3,
  getServer: 4,
  newDestination: 5,
  setDestination: 6,
  deleteDestination: 7,
  getDestinations: 8,
  setConfig: 12,
  getConfig: 13,
  getInfo: 15,
  flush: 17,
} as const;
/** IPVS_CMD_ATTR_* and IPVS_INFO_ATTR_*. */
export const ATTR = { server: 1, destination: 2, tcp: 4, tcpFin: 5, udp: 6 } as const;
export const INFO = { version: 1, tableSize: 2 } as const;

const SERVER = { af: 1, protocol: 2, address: 3, port: 4, fwmark: 5, scheduler: 6, flags: 7, timeout: 8, netmask: 9 };
const DESTINATION = { address: 1, port: 2, method: 3, weight: 4, upper: 5, lower: 6, active: 7, inactive: 8, af: 11 };
const STATS64 = 12;
const MASQUERADING = 0;
const ALL_BITS = 0xffffffff;
const MAX_WEIGHT = 0x7fffffff;

const AF: Readonly<Record<Family, number>> = { IPv4: 2, IPv6: 10 };
const PROTOCOL: Readonly<Record<TransportProtocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };
const FAMILY_OF = new Map(Object.entries(AF).map(([family, af]) => [af, family as Family]));
const PROTOCOL_OF = new Map(Object.entries(PROTOCOL).map(([name, number]) => [number, name as TransportProtocol]));

const MAPPED = '\0\0\0\0\0\0\0\0\0\0\xff\xff';

/** Bytes of the family's length, or null. Foreign servers may have an IPv4-mapped address as their IPv6 one. */
function addressBytes(family: Family, ip: string): string | null {
  const bytes = ipBytes(ip);
  if (bytes === null || familyOf(ip) !== family) return null;
  return family === 'IPv6' && bytes.length === 4 ? MAPPED + bytes : bytes;
}

const port16 = (port: number): string => String.fromCharCode(port >> 8, port & 255);
/** In host order. */
const u32 = (value: number): string =>
  String.fromCharCode(value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24);
const isInteger = (value: number, low: number, high: number): boolean =>
  Number.isInteger(value) && value >= low && value <= high;

/** What is wrong with the identity of a virtual server, or null. Port 0, of foreign servers, means any port. */
export function serverIdProblem(server: ServerId, lowestPort = 0): string | null {
  if (PROTOCOL[server.protocol] === undefined) return `protocol "${server.protocol}" is not TCP, UDP or SCTP`;
  if (addressBytes(server.family, server.ip) === null) return `ip "${server.ip}" is no ${server.family} address`;
  return isInteger(server.port, lowestPort, 65535) ? null : `port ${server.port} is not ${lowestPort} to 65535`;
}

/** What the kernel would refuse or, worse, accept: the name of the field and what is wrong, or null (V-53). */
export function serverProblem(server: VirtualServer): string | null {
  const { scheduler, flags, timeoutSeconds } = server;
  const problem = serverIdProblem(server, 1);
  if (problem !== null) return problem;
  if (!/^[\x21-\x7e]{1,15}$/.test(scheduler)) return `scheduler "${scheduler}" is not 1 to 15 printable characters`;
  if (!isInteger(flags, 0, ALL_BITS)) return `flags ${flags} are not 32 bits`;
  return isInteger(timeoutSeconds, 0, ALL_BITS) ? null : `timeoutSeconds ${timeoutSeconds} is not 0 to ${ALL_BITS}`;
}

/** What identifies a real server inside its virtual server (V-16). */
export type RealServerId = Pick<RealServer, 'ip' | 'port'>;

/** The same for the identity of a real server. */
export function destinationIdProblem({ ip, port }: RealServerId, lowestPort = 0): string | null {
  if (addressBytes(familyOf(ip), ip) === null) return `destination ip "${ip}" is no IP address`;
  return isInteger(port, lowestPort, 65535) ? null : `destination port ${port} is not ${lowestPort} to 65535`;
}

export function destinationProblem(destination: RealServer): string | null {
  const { weight } = destination;
  const problem = destinationIdProblem(destination, 1);
  if (problem !== null || isInteger(weight, 0, MAX_WEIGHT)) return problem;
  return `destination weight ${weight} is not 0 to ${MAX_WEIGHT}`;
}

function attrAddress(writer: MessageWriter, type: number, family: Family, ip: string): void {
  writer.attr(type, (addressBytes(family, ip) ?? '').padEnd(16, '\0'));
}

/** Writes the nest of a virtual server: its identity, and what it is to be unless `settings` is null. */
export function writeServer(writer: MessageWriter, id: ServerId, settings: VirtualServer | null): void {
  const nest = writer.nest(ATTR.server);
  writer.attrHostU16(SERVER.af, AF[id.family]);
  writer.attrHostU16(SERVER.protocol, PROTOCOL[id.protocol]);
  attrAddress(writer, SERVER.address, id.family, id.ip);
  writer.attr(SERVER.port, port16(id.port));
  if (settings !== null) {
    writer.attrString(SERVER.scheduler, settings.scheduler);
    // New flags = (old & ~mask) | (flags & mask).
    writer.attr(SERVER.flags, `${u32(settings.flags & ~SERVER_FLAG.hashed)}\xff\xff\xff\xff`);
    writer.attrHostU32(SERVER.timeout, settings.timeoutSeconds);
    writer.attrHostU32(SERVER.netmask, id.family === 'IPv4' ? ALL_BITS : 128);
  }
  writer.endNest(nest);
}

/** Writes the nest of a real server: its identity, and unless `settings` is null what it is to be. */
export function writeDestination(writer: MessageWriter, id: RealServerId, settings: RealServer | null): void {
  const family = familyOf(id.ip);
  const nest = writer.nest(ATTR.destination);
  attrAddress(writer, DESTINATION.address, family, id.ip);
  writer.attr(DESTINATION.port, port16(id.port));
  writer.attrHostU16(DESTINATION.af, AF[family]);
  if (settings !== null) {
    writer.attrHostU32(DESTINATION.method, MASQUERADING);
    writer.attrHostU32(DESTINATION.weight, settings.weight);
    // No limits to the number of connections; the kernel wants to be told.
    writer.attrHostU32(DESTINATION.upper, 0);
    writer.attrHostU32(DESTINATION.lower, 0);
  }
  writer.endNest(nest);
}

function nestOf(message: Message, type: number): Attributes | undefined {
  return new Attributes(message.buffer, message.start + GENL_HEADER_LENGTH, message.end).nested(type);
}

function addressText(bytes: string | undefined, family: Family): string | null {
  if (bytes?.length !== 16) return null;
  return ipText(family === 'IPv4' ? bytes.slice(0, 4) : bytes);
}

/**
 * The virtual server of an answer; null for what has no ServerId: a firewall mark's, or one of another protocol.
 * @throws RangeError when a length does not fit.
 */
export function readServer(message: Message): VirtualServer | null {
  const nest = nestOf(message, ATTR.server);
  const family = FAMILY_OF.get(nest?.hostU16(SERVER.af) ?? 0);
  const protocol = PROTOCOL_OF.get(nest?.hostU16(SERVER.protocol) ?? 0);
  if (nest === undefined || family === undefined || protocol === undefined || nest.has(SERVER.fwmark)) return null;
  const ip = addressText(nest.bytes(SERVER.address), family);
  const port = nest.u16(SERVER.port);
  if (ip === null || port === undefined) return null;
  return {
    family,
    protocol,
    ip,
    port,
    scheduler: nest.text(SERVER.scheduler) ?? '',
    flags: ((nest.hostU32(SERVER.flags) ?? 0) & ~SERVER_FLAG.hashed) >>> 0,
    timeoutSeconds: nest.hostU32(SERVER.timeout) ?? 0,
  };
}

/** The real server of an answer, whatever its forwarding method. @throws RangeError when a length does not fit. */
export function readDestination(message: Message): RealServerState | null {
  const nest = nestOf(message, ATTR.destination);
  const family = FAMILY_OF.get(nest?.hostU16(DESTINATION.af) ?? 0);
  if (nest === undefined || family === undefined) return null;
  const ip = addressText(nest.bytes(DESTINATION.address), family);
  const port = nest.u16(DESTINATION.port);
  if (ip === null || port === undefined) return null;
  return {
    ip,
    port,
    weight: nest.hostU32(DESTINATION.weight) ?? 0,
    active: nest.hostU32(DESTINATION.active) ?? 0,
    inactive: nest.hostU32(DESTINATION.inactive) ?? 0,
  };
}

/** What a virtual server has seen since it was made. */
export interface ServerStatistics {
  readonly connections: bigint;
  readonly packetsIn: bigint;
  readonly packetsOut: bigint;
  readonly bytesIn: bigint;
  readonly bytesOut: bigint;
}

/** The statistics in the answer for a virtual server, or null. */
export function readStatistics(message: Message): ServerStatistics | null {
  const stats = nestOf(message, ATTR.server)?.nested(STATS64);
  if (stats === undefined) return null;
  const counter = (type: number): bigint => stats.hostU64(type) ?? 0n;
  return {
    connections: counter(1),
    packetsIn: counter(2),
    packetsOut: counter(3),
    bytesIn: counter(4),
    bytesOut: counter(5),
  };
}
