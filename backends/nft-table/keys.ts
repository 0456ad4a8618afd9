// Keys that both nf_tables backends give their elements: register bytes, each field padded to 4 bytes.
import { cidrRange, type Family, ipBytes, parseCidr } from '../../native/ip.ts';
import type { Element } from '../../native/nftables/batch.ts';
import type { Endpoint, Frontend, Protocol, ServicePortPlan } from '../service-plan.ts';
import { addressLength, portBytes, protocolBytes } from './fields.ts';

/** Address and port. */
export const endpointBytes = (endpoint: Endpoint): string => ipBytes(endpoint.ip)! + portBytes(endpoint.port);

/** The key of a frontend: address (zero for a node port), protocol, port. */
export function frontendKey(family: Family, plan: ServicePortPlan, frontend: Frontend): string {
  const address = frontend.ip === null ? '\0'.repeat(addressLength(family)) : ipBytes(frontend.ip)!;
  return address + protocolBytes(plan.protocol) + portBytes(frontend.port);
}

export const frontendKeyLength = (family: Family): number => addressLength(family) + 8;

/** Protocol and port, without an address. */
export const protocolPortKey = (protocol: Protocol, port: number): string => protocolBytes(protocol) + portBytes(port);

/** A port as the only field of a key, which has no padding. */
export const portKey = (port: number): string => portBytes(port).slice(0, 2);

/** Source, destination, protocol, port of an endpoint that reaches itself (S-25). */
export function hairpinKey(endpoint: Endpoint, protocol: Protocol): string {
  const ip = ipBytes(endpoint.ip)!;
  return ip + ip + protocolPortKey(protocol, endpoint.port);
}

/**
 * Elements that allow sources to reach a frontend: the ranges of these CIDRs and single addresses, merged (S-41, S-45).
 * @param frontend Its key.
 */
export function allowedSources(frontend: string, cidrs: readonly string[], addresses: readonly string[]): Element[] {
  const ranges = cidrs.map((text) => cidrRange(parseCidr(text)!));
  for (const ip of addresses) ranges.push({ low: ipBytes(ip)!, high: ipBytes(ip)! });
  return mergeRanges(ranges).map(({ low, high }) => ({ key: frontend + low, keyEnd: frontend + high }));
}

interface Range {
  low: string;
  high: string;
}

/** Sorted ranges without overlap or adjacency, which an interval set would refuse. */
export function mergeRanges(ranges: readonly Range[]): Range[] {
  const out: Range[] = [];
  for (const range of [...ranges].sort((x, y) => (x.low < y.low ? -1 : x.low > y.low ? 1 : 0))) {
    const last = out.at(-1);
    if (last && range.low <= successor(last.high)) {
      if (range.high > last.high) last.high = range.high;
    } else {
      out.push({ ...range });
    }
  }
  return out;
}

/** The next address; the highest one is its own successor. */
function successor(bytes: string): string {
  for (let i = bytes.length - 1; i >= 0; i--) {
    const byte = bytes.charCodeAt(i);
    if (byte < 255) return bytes.slice(0, i) + String.fromCharCode(byte + 1) + '\0'.repeat(bytes.length - i - 1);
  }
  return bytes;
}
