// Facts of this host that decide how the agent runs.
import { existsSync, readFileSync } from 'node:fs';
import type { Family } from '../native/ip.ts';

/** Families to serve in nftables mode (P-20). @throws Error when the node's primary family is not supported. */
export function supportedFamilies(primary: Family): Family[] {
  const families: Family[] = hasIPv6() ? ['IPv4', 'IPv6'] : ['IPv4'];
  if (!families.includes(primary))
    throw new Error(`the node's primary IP family ${primary} is not supported by this host`);
  return families;
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
