// The real servers of all virtual servers from /proc/net/ip_vs: one read, where netlink needs a request for each
// virtual server. The file lacks what else virtual servers are (scheduler flags), and gives their persistence in ticks.
//   TCP  0A600001:0050 rr  persistent 2700000 FFFFFFFF     addresses and ports in hexadecimal, network order
//     -> 0AF40002:1F90      Masq    1      0          0    method, weight, active and inactive connections
import { readFileSync } from 'node:fs';
import { ipText } from '../ip.ts';
import type { IpvsConnection } from './connection.ts';
import { type RealServerState, type ServerId, serverKey, type TransportProtocol } from './objects.ts';

/** Of the calling thread's network namespace. */
const FILE = '/proc/thread-self/net/ip_vs';
const isTransportProtocol = (text: string): text is TransportProtocol =>
  text === 'TCP' || text === 'UDP' || text === 'SCTP';
const SOCKET = '(?:([0-9A-F]{8})|\\[((?:[0-9a-f]{4}:){7}[0-9a-f]{4})\\]):([0-9A-F]{4})';
const SERVER = new RegExp(`^[A-Z]+ +${SOCKET} `);
const REAL_SERVER = new RegExp(`^ *-> +${SOCKET} +\\w+ +(\\d+) +(\\d+) +(\\d+) *$`);

/** Of the three groups of SOCKET, one of the first two being undefined. */
function readSocket(four: string | undefined, six: string | undefined, port: string): { ip: string; port: number } {
  if (four === undefined) {
    const bytes = Buffer.from(six!.replaceAll(':', ''), 'hex').toString('latin1');
    return { ip: ipText(bytes), port: Number.parseInt(port, 16) };
  }
  const n = Number.parseInt(four, 16);
  return { ip: `${n >>> 24}.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`, port: Number.parseInt(port, 16) };
}

function readState(line: string): RealServerState | null {
  const match = REAL_SERVER.exec(line);
  if (match === null) return null;
  const { ip, port } = readSocket(match[1], match[2], match[3]!);
  return { ip, port, weight: Number(match[4]), active: Number(match[5]), inactive: Number(match[6]) };
}

function readServerId(line: string, protocol: TransportProtocol): ServerId | null {
  const match = SERVER.exec(line);
  if (match === null) return null;
  return { family: match[1] === undefined ? 'IPv6' : 'IPv4', protocol, ...readSocket(match[1], match[2], match[3]!) };
}

/**
 * Real servers by serverKey, an empty list for a virtual server that has none. Virtual servers of firewall marks and
 * of other protocols than TCP, UDP and SCTP are left out. The kernel holds no lock from one read to the next: a virtual
 * server that comes twice is merged, a change while reading may be missed.
 * @throws RangeError that names the line which cannot be read.
 */
export function parseRealServers(text: string): Map<string, RealServerState[]> {
  const out = new Map<string, RealServerState[]>();
  let list: RealServerState[] | null = null;
  let repeated = false;
  const fail = (line: string, index: number, what: string): never => {
    throw new RangeError(`${FILE}, line ${index + 1}: "${line}" is no ${what}`);
  };
  for (const [index, line] of text.split('\n').entries()) {
    if (line.startsWith('  ->')) {
      if (list === null) continue;
      const state = readState(line) ?? fail(line, index, 'real server');
      if (!repeated || !list.some(({ ip, port }) => ip === state.ip && port === state.port)) list.push(state);
      continue;
    }
    list = null;
    const protocol = line.slice(0, line.indexOf(' '));
    if (!isTransportProtocol(protocol)) continue;
    const key = serverKey(readServerId(line, protocol) ?? fail(line, index, 'virtual server'));
    const known = out.get(key);
    repeated = known !== undefined;
    list = known ?? [];
    if (!repeated) out.set(key, list);
  }
  return out;
}

/**
 * The real servers of all virtual servers of the calling thread's network namespace.
 * @throws Error with code ENOENT when ip_vs is not loaded; RangeError as parseRealServers.
 */
export function readRealServers(): Map<string, RealServerState[]> {
  return parseRealServers(readFileSync(FILE, 'latin1'));
}

/** Real servers of so many virtual servers are asked for one by one. */
const ASK_ONE_BY_ONE = 100;

/**
 * How to read the real servers of `count` virtual servers that exist. The file is not read in one moment, and can lack
 * some while virtual servers come and go; those are asked for.
 * @throws as readRealServers. What is returned throws as IpvsConnection.realServers.
 */
export function realServerReader(
  ipvs: Pick<IpvsConnection, 'realServers'>,
  count: number,
  readAll: () => ReadonlyMap<string, readonly RealServerState[]> = readRealServers,
): (server: ServerId) => readonly RealServerState[] {
  const all = count > ASK_ONE_BY_ONE ? readAll() : null;
  return (server) => all?.get(serverKey(server)) ?? ipvs.realServers(server);
}
