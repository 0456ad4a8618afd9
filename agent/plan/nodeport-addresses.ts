// On which addresses of the node its node ports are served (S-50, S-51, S-54).
import { IPVS_DEVICE } from '../../backends/ipvs/device.ts';
import { cidrContains, type Family, familyOf, parseCidr } from '../../native/ip.ts';
import { isLinkLocal, isLoopback } from '../state/fields.ts';
import type { NodeAddresses } from './node-addresses.ts';

export type Mode = 'iptables' | 'ipvs' | 'nftables';

export interface NodePortAddresses {
  /** Every local address counts; `addresses` is null then. */
  readonly matchAll: boolean;
  /** Interface addresses inside the CIDRs, loopback included. */
  readonly addresses: readonly string[] | null;
  /** The setting covers IPv4 loopback; false for IPv6 (S-54). */
  readonly containsIPv4Loopback: boolean;
  /**
   * What the mode's backend serves, loopback excluded: 'all' leaves it to the kernel's address type; ipvs, which must
   * name each address, never gets 'all'.
   */
  readonly served: 'all' | readonly string[];
}

/** The setting when it is not given (S-51). */
export function defaultNodePortAddresses(mode: Mode): readonly string[] {
  return mode === 'nftables' ? ['primary'] : [];
}

/** Replaces `primary` by the node's IPs that are known and not loopback; done once at start-up (S-51). */
export function resolvePrimary(setting: readonly string[], addresses: NodeAddresses): readonly string[] {
  if (!setting.includes('primary')) return setting;
  const out: string[] = [];
  if (!isLoopback(addresses.IPv4)) out.push(`${addresses.IPv4}/32`);
  if (!isLoopback(addresses.IPv6)) out.push(`${addresses.IPv6}/128`);
  return out;
}

/** An interface of the host with its canonical addresses (no prefix length). */
export interface InterfaceAddresses {
  readonly name: string;
  readonly addresses: readonly string[];
}

/** Those of a family, sorted; the addresses of Services that ipvs mode binds are none of the host's. */
const ownAddresses = (family: Family, interfaces: readonly InterfaceAddresses[]): string[] => {
  const own = interfaces.filter(({ name }) => name !== IPVS_DEVICE).flatMap(({ addresses }) => addresses);
  return [...new Set(own.filter((ip) => familyOf(ip) === family))].sort();
};

/** Addresses by which others reach this host: neither loopback nor IPv6 link-local ones (V-8). */
export function hostAddresses(family: Family, interfaces: readonly InterfaceAddresses[]): string[] {
  return ownAddresses(family, interfaces).filter((ip) => !isLoopback(ip) && !(family === 'IPv6' && isLinkLocal(ip)));
}

/** `setting`: CIDRs, `primary` resolved. */
export function nodePortAddresses(options: {
  mode: Mode;
  family: Family;
  setting: readonly string[];
  interfaces: readonly InterfaceAddresses[];
}): NodePortAddresses {
  const { mode, family } = options;
  const cidrs = options.setting.map((text) => parseCidr(text)).filter((cidr) => cidr?.family === family);
  const matchAll = cidrs.length === 0 || cidrs.some((cidr) => cidr!.prefix === 0);
  const own = ownAddresses(family, options.interfaces);
  const addresses = matchAll ? null : own.filter((ip) => cidrs.some((cidr) => cidrContains(cidr!, ip)));
  const loopback = matchAll || cidrs.some((cidr) => cidr!.base.startsWith('127.') || cidrContains(cidr!, '127.0.0.0'));
  let served: NodePortAddresses['served'];
  if (addresses !== null) served = addresses.filter((ip) => !isLoopback(ip));
  else if (mode !== 'ipvs') served = 'all';
  else served = hostAddresses(family, options.interfaces);
  return { matchAll, addresses, containsIPv4Loopback: family === 'IPv4' && loopback, served };
}
