// What counts as a proxy's among iptables rules: our own, which are kube-proxy's in iptables mode, and those that
// kube-proxy has in ipvs mode besides (V-30, V-31), where we need none.
import type { Mode } from '../backend.ts';
import { FIREWALL_CHAIN, JUMPS, type Jump, jump, TOP_CHAINS } from './fixed-rules.ts';
import { isOwnedChain } from './names.ts';
import type { Table } from './rule.ts';

export const FORWARD_CHAIN = 'KUBE-FORWARD';

/** Chains that kube-proxy has in ipvs mode only; the others of that mode are in iptables mode too (V-30). */
export const IPVS_CHAINS: Readonly<Record<Table, readonly string[]>> = {
  mangle: [],
  filter: ['KUBE-NODE-PORT', 'KUBE-SOURCE-RANGES-FIREWALL', 'KUBE-IPVS-FILTER', 'KUBE-IPVS-OUT-FILTER'],
  nat: ['KUBE-NODE-PORT', 'KUBE-LOAD-BALANCER'],
};

const FIREWALL = 'kube-proxy firewall rules';
const ACCESS = 'kubernetes ipvs access filter';

/** The same of the jumps (V-31). */
export const IPVS_JUMPS: readonly Jump[] = [
  jump('filter', 'INPUT', 'KUBE-NODE-PORT', 'kubernetes health check rules'),
  jump('filter', 'INPUT', 'KUBE-PROXY-FIREWALL', FIREWALL),
  jump('filter', 'FORWARD', 'KUBE-PROXY-FIREWALL', FIREWALL),
  jump('filter', 'INPUT', 'KUBE-IPVS-FILTER', ACCESS),
  jump('filter', 'OUTPUT', 'KUBE-IPVS-OUT-FILTER', ACCESS),
];

/** Whether a chain is ours by its name (I-1, I-2). */
export function isOurChain(table: Table, chain: string): boolean {
  return TOP_CHAINS[table].includes(chain) || (table === 'nat' && isOwnedChain(chain));
}

/** Whether a chain is a proxy's, in whichever mode. */
export function isProxyChain(table: Table, chain: string): boolean {
  return isOurChain(table, chain) || IPVS_CHAINS[table].includes(chain);
}

/** What is to be removed. */
export interface Leftovers {
  readonly jumps: readonly Jump[];
  readonly isChain: (table: Table, chain: string) => boolean;
}

/**
 * What a proxy that has gone left, if `staying` works on this node: nothing that this mode has, or may have, of its own
 * goes. KUBE-FIREWALL is the kubelet's too and never goes (I-7).
 */
export function leftoversBeside(staying: Mode | null): Leftovers {
  if (staying === 'iptables') {
    return { jumps: IPVS_JUMPS, isChain: (table, chain) => IPVS_CHAINS[table].includes(chain) };
  }
  const kept = staying === 'ipvs' ? [FIREWALL_CHAIN, FORWARD_CHAIN] : [FIREWALL_CHAIN];
  return {
    jumps: [...JUMPS, ...IPVS_JUMPS].filter(({ rule: { target } }) =>
      target?.target === 'jump' ? !kept.includes(target.chain) : false,
    ),
    isChain: (table, chain) => isProxyChain(table, chain) && !(table === 'filter' && kept.includes(chain)),
  };
}

/** The sets of kube-proxy in ipvs mode (V-25). IPv6 names are cut to what the kernel takes. */
export const IPSETS: readonly string[] = [
  'LOOP-BACK',
  'CLUSTER-IP',
  'EXTERNAL-IP',
  'EXTERNAL-IP-LOCAL',
  'LOAD-BALANCER',
  'LOAD-BALANCER-LOCAL',
  'LOAD-BALANCER-FW',
  'LOAD-BALANCER-SOURCE-CIDR',
  'LOAD-BALANCER-SOURCE-IP',
  'NODE-PORT-TCP',
  'NODE-PORT-LOCAL-TCP',
  'NODE-PORT-UDP',
  'NODE-PORT-LOCAL-UDP',
  'NODE-PORT-SCTP-HASH',
  'NODE-PORT-LOCAL-SCTP-HASH',
  'HEALTH-CHECK-NODE-PORT',
  'IPVS-IPS',
].flatMap((name) => [`KUBE-${name}`, `KUBE-6-${name}`.slice(0, 31)]);
