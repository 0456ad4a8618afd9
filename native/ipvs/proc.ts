// The real servers of all virtual servers from /proc/net/ip_vs: one read, where netlink needs a request for each
// virtual server. The file lacks what else virtual servers are (scheduler flags), and gives their persistence in ticks.
//   TCP  0A600001:0050 rr  persistent 2700000 FFFFFFFF     addresses and ports in hexadecimal, network order
//     -> 0AF40002:1F90      Masq    1      0          0    method, weight, active and inactive connections
import { readFileSync } from 'node:fs';
import { type Family, ipText } from '../ip.ts';
import { type RealServerState, serverKey, type TransportProtocol } from './objects.ts';

/** Of the calling thread's network namespace. */
const FILE = '/proc/thread-self/net/ip_vs';
const PROTOCOLS: ReadonlySet<string> = new Set<TransportProtocol>(['TCP', 'UDP', 'SCTP']);
const SOCKET = /^(?:([0-9A-F]{8})|\[((?:[0-9a-f]{4}:){7}[0-9a-f]{4})\]):([0-9A-F]{4})$/;
const NUMBER = /^\d+$/;

function readSocket(text: string): { family: Family; ip: string; port: number } | null {
  const match = SOCKET.exec(text);
  if (match === null) return null;
  const [, four, six, port] = match;
  const bytes = Buffer.from(four ?? six!.replaceAll(':', ''), 'hex').toString('latin1');
  return { family: four === undefined ? 'IPv6' : 'IPv4', ip: ipText(bytes), port: Number.parseInt(port!, 16) };
}

function readState(fields: readonly string[]): RealServerState | null {
  const [, address, , weight, active, inactive] = fields;
  const socket = readSocket(address ?? '');
  if (socket === null || ![weight, active, inactive].every((field) => NUMBER.test(field ?? ''))) return null;
  const { ip, port } = socket;
  return { ip, port, weight: Number(weight), active: Number(active), inactive: Number(inactive) };
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
  for (const [index, line] of text.split('\n').entries()) {
    const fields = line.trim().split(/\s+/);
    const protocol = fields[0]!;
    if (protocol === '->') {
      if (list === null) continue;
      const state = readState(fields);
      if (state === null) throw new RangeError(`${FILE}, line ${index + 1}: "${line}" is no real server`);
      if (!repeated || !list.some(({ ip, port }) => ip === state.ip && port === state.port)) list.push(state);
      continue;
    }
    list = null;
    if (!PROTOCOLS.has(protocol)) continue;
    const socket = readSocket(fields[1] ?? '');
    if (socket === null) throw new RangeError(`${FILE}, line ${index + 1}: "${line}" is no virtual server`);
    const key = serverKey({ protocol: protocol as TransportProtocol, ...socket });
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
