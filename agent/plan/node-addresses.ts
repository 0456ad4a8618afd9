// The node's own IP per family (P-14).
import { canonicalIP, type Family, familyOf } from '../../native/ip.ts';
import type { Node } from '../state/objects.ts';

export interface NodeAddresses {
  readonly primaryFamily: Family;
  /** 127.0.0.1 when unknown. */
  readonly IPv4: string;
  /** ::1 when unknown. */
  readonly IPv6: string;
}

/** `node` null: not known. `bindAddress`: '' or unspecified means it says nothing. */
export function nodeAddresses(options: { node: Node | null; bindAddress: string }): NodeAddresses {
  const listed = options.node?.addresses ?? [];
  const ips = [
    ...listed.filter((address) => address.type === 'InternalIP'),
    ...listed.filter((address) => address.type === 'ExternalIP'),
  ].map((address) => address.ip);
  const bind = canonicalIP(options.bindAddress);
  // In front of all, a specific bind address is the first of its family.
  if (bind !== null && bind !== '0.0.0.0' && bind !== '::') ips.unshift(bind);
  const first = (family: Family) => ips.find((ip) => familyOf(ip) === family);
  return {
    primaryFamily: ips[0] === undefined ? 'IPv4' : familyOf(ips[0]),
    IPv4: first('IPv4') ?? '127.0.0.1',
    IPv6: first('IPv6') ?? '::1',
  };
}
