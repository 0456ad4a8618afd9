// Facts of this host that decide how the agent runs.
import { existsSync, readFileSync } from 'node:fs';
import { FAMILIES, type Family } from '../native/ip.ts';

/**
 * Families to serve (P-20). `unusable`: those the backend cannot serve, with the reason.
 * @throws Error when the node's primary family is not supported.
 */
export function supportedFamilies(primary: Family, unusable: ReadonlyMap<Family, string> = new Map()): Family[] {
  const families = FAMILIES.filter((family) => !unusable.has(family) && (family === 'IPv4' || hasIPv6()));
  if (families.includes(primary)) return families;
  const why = unusable.get(primary) ?? 'this host has it switched off';
  throw new Error(`the node's primary IP family ${primary} cannot be served: ${why}`);
}

function hasIPv6(): boolean {
  if (!existsSync('/proc/net/if_inet6')) return false;
  try {
    return readFileSync('/proc/sys/net/ipv6/conf/all/disable_ipv6', 'utf8').trim() !== '1';
  } catch {
    return true;
  }
}

/** Whether the kernel lets packets of unknown sequence numbers pass (S-78); false when it does not say. */
export function tcpBeLiberal(): boolean {
  try {
    return readFileSync('/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal', 'utf8').trim() !== '0';
  } catch {
    return false;
  }
}
