// Names of the chains that belong to one ServicePort: KUBE-SVC-…, as kube-proxy derives them, because people look for
// them. A name costs under a microsecond (50,000 of them 50 ms), so none is remembered.
import { hash } from 'node:crypto';
import type { Protocol } from '../service-plan.ts';

/** Chains of table nat with these prefixes are the proxy's, and go when nothing wants them any more (I-2, I-45). */
export const OWNED_PREFIXES: readonly string[] = ['KUBE-SVC-', 'KUBE-SVL-', 'KUBE-EXT-', 'KUBE-FW-', 'KUBE-SEP-'];

export function isOwnedChain(name: string): boolean {
  return OWNED_PREFIXES.some((prefix) => name.startsWith(prefix));
}

/** Names of the chains of a ServicePort, whether they are used or not. */
export interface ServiceChains {
  /** KUBE-SVC: the cluster set. */
  readonly cluster: string;
  /** KUBE-SVL: the local set. */
  readonly local: string;
  /** KUBE-EXT: entry of traffic to external IPs, load balancer IPs and node ports. */
  readonly external: string;
  /** KUBE-FW: source ranges. */
  readonly firewall: string;
}

/** `portName` is `namespace/name:port` or `namespace/name` (I-3). */
export function serviceChains(portName: string, protocol: Protocol): ServiceChains {
  const h = nameHash(portName + protocol.toLowerCase());
  return { cluster: `KUBE-SVC-${h}`, local: `KUBE-SVL-${h}`, external: `KUBE-EXT-${h}`, firewall: `KUBE-FW-${h}` };
}

/** KUBE-SEP: one endpoint, given as `ip:port` or `[ip]:port` (I-3). The affinity list has the same name (S-59). */
export function endpointChain(portName: string, protocol: Protocol, endpoint: string): string {
  return `KUBE-SEP-${nameHash(portName + protocol.toLowerCase() + endpoint)}`;
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
/** The two characters of each number of ten bits. */
const PAIRS = Array.from({ length: 1024 }, (_, bits) => ALPHABET[bits >> 5]! + ALPHABET[bits & 31]!);

/** The first 16 characters, 80 bits, of the base32 text of SHA-256 (I-4). */
function nameHash(text: string): string {
  const hex = hash('sha256', text, 'hex');
  let out = '';
  for (let at = 0; at < 20; at += 5) {
    const bits = Number.parseInt(hex.slice(at, at + 5), 16);
    out += PAIRS[bits >> 10]! + PAIRS[bits & 1023]!;
  }
  return out;
}
