// State of ipvs mode for people: virtual and real servers as `ipvsadm -S -n` prints them, addresses as `ip -br addr` does,
// then the companion tables. No headings: ipvsadm -R, which takes the first part, knows no comments.
import { ipBytes } from '../../native/ip.ts';
import {
  type RealServer,
  SERVER_FLAG,
  serverKey,
  socketText,
  type TransportProtocol,
  type VirtualServer,
} from '../../native/ipvs/objects.ts';
import { PROTOCOL_NUMBER } from '../nft-table/fields.ts';
import { IPVS_DEVICE } from './device.ts';

export interface ListedServer {
  readonly server: VirtualServer;
  readonly realServers: readonly RealServer[];
}

/** From memory or from the kernel, in any order. */
export interface IpvsView {
  readonly servers: Iterable<ListedServer>;
  /** Canonical ones on the dummy interface; null when there is no such interface. */
  readonly addresses: Iterable<string> | null;
}

/** Keys of virtual servers, and addresses, that belong to a Service. */
export interface Belongings {
  readonly servers: { has(key: string): boolean };
  readonly addresses: { has(ip: string): boolean };
}

/** What is of these Services alone. */
export function viewOf({ servers, addresses }: IpvsView, services: readonly Belongings[]): IpvsView {
  return {
    servers: [...servers].filter(({ server }) => services.some((own) => own.servers.has(serverKey(server)))),
    addresses: addresses && [...addresses].filter((ip) => services.some((own) => own.addresses.has(ip))),
  };
}

/** Virtual servers in one part of a text. */
const PART = 500;

/**
 * The text in parts that take little time each; '' for an empty view. It tells the state of the moment when the first
 * part was taken, if nobody changes the lists of real servers in the meantime. `tables`: text of the companion tables.
 */
export function* dumpParts({ servers, addresses }: IpvsView, tables: Iterable<string>): Generator<string> {
  const sorted = [...servers].map((listed) => ({ listed, key: sortKey(listed.server) }));
  sorted.sort((a, b) => (a.key < b.key ? -1 : 1));
  const bound = addresses && [...addresses].map((ip) => ({ ip, key: addressKey(ip) }));
  bound?.sort((a, b) => (a.key < b.key ? -1 : 1));
  let gap = '';
  for (let at = 0; at < sorted.length; at += PART) {
    yield sorted
      .slice(at, at + PART)
      .map(({ listed }) => serverText(listed))
      .join('');
    gap = '\n';
  }
  if (bound !== null && bound.length > 0) {
    yield gap + addressesText(bound.map(({ ip }) => ip));
    gap = '\n';
  }
  for (const part of tables) {
    yield gap + part;
    gap = '';
  }
}

const bigEndian = (n: number): string => String.fromCharCode(n >> 8, n & 255);
const addressKey = (ip: string): string => {
  const bytes = ipBytes(ip)!;
  return bigEndian(bytes.length) + bytes;
};

/** The order of ipvsadm: family, protocol by number, address, port. */
function sortKey({ ip, port, protocol }: VirtualServer): string {
  const bytes = ipBytes(ip)!;
  return bigEndian(bytes.length) + bigEndian(PROTOCOL_NUMBER[protocol]) + bytes + bigEndian(port);
}

const PROTOCOL_OPTION: Readonly<Record<TransportProtocol, string>> = { TCP: '-t', UDP: '-u', SCTP: '--sctp-service' };

/** A virtual server with its real servers, as `ipvsadm -S -n` prints them. */
export function serverText({ server, realServers }: ListedServer): string {
  const { protocol, ip, port, scheduler, flags, timeoutSeconds } = server;
  const name = `${PROTOCOL_OPTION[protocol]} ${socketText(ip, port)}`;
  let out = `-A ${name} -s ${scheduler}`;
  if (flags & SERVER_FLAG.persistent) out += ` -p ${timeoutSeconds}`;
  if (flags & SERVER_FLAG.onePacket) out += ' -o';
  const words = schedulerFlags(scheduler).filter((_, i) => flags & (SERVER_FLAG.fallback << i));
  if (words.length > 0) out += ` -b ${words.join(',')}`;
  const sorted = realServers.map((real) => ({ real, key: ipBytes(real.ip)! + bigEndian(real.port) }));
  sorted.sort((a, b) => (a.key < b.key ? -1 : 1));
  for (const { real } of sorted) out += `\n-a ${name} -r ${socketText(real.ip, real.port)} -m -w ${real.weight}`;
  return `${out}\n`;
}

/** ipvsadm's words for the flags 0x8, 0x10, 0x20, which mean something to some schedulers only. */
function schedulerFlags(scheduler: string): readonly string[] {
  if (scheduler === 'sh' || scheduler === 'mh') return [`${scheduler}-fallback`, `${scheduler}-port`, 'flag-3'];
  return ['flag-1', 'flag-2', 'flag-3'];
}

/** As `ip -br addr` prints an interface that is down. */
export function addressesText(addresses: readonly string[]): string {
  const listed = addresses.map((ip) => `${ip}/${ip.includes(':') ? 128 : 32} `).join('');
  return `${IPVS_DEVICE.padEnd(16)} ${'DOWN'.padEnd(14)} ${listed}\n`;
}
