// On which addresses of the node its node ports are served (S-50, S-51, S-54).
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

/**
 * `setting`: CIDRs, `primary` resolved. `interfaces`: all of the host with their canonical addresses (no prefix length).
 * `excludeInterface`: the device on which ipvs binds service addresses.
 */
export function nodePortAddresses(options: {
  mode: Mode;
  family: Family;
  setting: readonly string[];
  interfaces: readonly { readonly name: string; readonly addresses: readonly string[] }[];
  excludeInterface?: string;
}): NodePortAddresses {
  const { mode, family } = options;
  const cidrs = options.setting.map((text) => parseCidr(text)).filter((cidr) => cidr?.family === family);
  const matchAll = cidrs.length === 0 || cidrs.some((cidr) => cidr!.prefix === 0);
  const own = options.interfaces
    .filter((device) => device.name !== options.excludeInterface)
    .flatMap((device) => device.addresses.filter((ip) => familyOf(ip) === family));
  const all = [...new Set(own)].sort();
  const addresses = matchAll ? null : all.filter((ip) => cidrs.some((cidr) => cidrContains(cidr!, ip)));
  const loopback = matchAll || cidrs.some((cidr) => cidr!.base.startsWith('127.') || cidrContains(cidr!, '127.0.0.0'));
  let served: NodePortAddresses['served'];
  if (addresses !== null) served = addresses.filter((ip) => !isLoopback(ip));
  else if (mode !== 'ipvs') served = 'all';
  else served = all.filter((ip) => !isLoopback(ip) && !(family === 'IPv6' && isLinkLocal(ip)));
  return { matchAll, addresses, containsIPv4Loopback: family === 'IPv4' && loopback, served };
}
