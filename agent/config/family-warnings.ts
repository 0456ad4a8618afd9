// Settings that do not fit the IP families of this node (P-21, P-22). No I/O.
import { type Family, familyOf, parseCidr } from '../../native/ip.ts';
import { parseBindAddress } from './bind-address.ts';
import type { Config } from './types.ts';

export interface FamilyWarningsOptions {
  readonly config: Config;
  readonly primaryFamily: Family;
  /** Families that are served. */
  readonly families: readonly Family[];
  /** Node.spec.podCIDRs. */
  readonly podCidrs: readonly string[];
  /** Node-port CIDRs, `primary` resolved (S-51). */
  readonly nodePortCidrs: readonly string[];
}

export interface FamilyWarnings {
  /** To be logged. */
  readonly warnings: readonly string[];
  /** The agent cannot run with these. */
  readonly fatal: readonly string[];
}

const other = (family: Family): Family => (family === 'IPv4' ? 'IPv6' : 'IPv4');
const count = (cidrs: readonly string[], family: Family): number =>
  cidrs.filter((cidr) => parseCidr(cidr)?.family === family).length;
const isDual = (cidrs: readonly string[]): boolean => count(cidrs, 'IPv4') > 0 && count(cidrs, 'IPv6') > 0;

export function familyWarnings(options: FamilyWarningsOptions): FamilyWarnings {
  const { config, primaryFamily, families, podCidrs } = options;
  const wrong = other(primaryFamily);
  const single = families.length === 1;
  const node = `this node is ${primaryFamily}${single ? ' only' : ' first'}`;
  const warnings = nodePortWarnings(options);
  const fatal: string[] = [];
  const allWrong = (cidrs: readonly string[]): boolean => cidrs.length > 0 && count(cidrs, wrong) === cidrs.length;

  if (allWrong(config.clusterCidrs)) {
    const list = config.detectLocalMode === 'ClusterCIDR' && single ? fatal : warnings;
    list.push(`clusterCIDR: ${config.clusterCidrs.join(',')} has only ${wrong} CIDRs, but ${node}`);
  }
  if (allWrong(podCidrs)) {
    const list = config.detectLocalMode === 'NodeCIDR' ? fatal : warnings;
    list.push(`spec.podCIDRs of the Node: ${podCidrs.join(',')} are only ${wrong} CIDRs, but ${node}`);
  }
  if (!single) return { warnings, fatal };
  if (allWrong(config.ipvs.excludeCidrs))
    warnings.push(`ipvs.excludeCIDRs: ${config.ipvs.excludeCidrs.join(',')} has only ${wrong} CIDRs, but ${node}`);
  for (const field of ['healthzBindAddress', 'metricsBindAddress'] as const) {
    const ip = parseBindAddress(config[field])?.ip;
    if (ip === undefined || ip === '0.0.0.0' || ip === '::' || familyOf(ip) !== wrong) continue;
    warnings.push(`${field}: ${config[field]} is an ${wrong} address, but ${node}`);
  }
  return { warnings, fatal };
}

/** P-21: node ports that are open more widely than it looks. */
function nodePortWarnings({ config, primaryFamily, podCidrs, nodePortCidrs }: FamilyWarningsOptions): string[] {
  if (nodePortCidrs.length === 0)
    return ['nodePortAddresses: not set, node ports are served on all addresses of this node; "primary" limits them'];
  const secondary = other(primaryFamily);
  const dual = [config.clusterCidrs, nodePortCidrs, config.ipvs.excludeCidrs, podCidrs].some(isDual);
  const open = (family: Family): string =>
    `nodePortAddresses: ${nodePortCidrs.join(',')} has no ${family} CIDR, node ports are served on all ${family} addresses of this node`;
  if (count(nodePortCidrs, primaryFamily) === 0) return [open(primaryFamily)];
  return dual && count(nodePortCidrs, secondary) === 0 ? [open(secondary)] : [];
}
