// What a backend must know of this node: detectors, node-port addresses, ServiceCIDRs (S-50, S-64, S-65, S-77).
import type { DetectLocal, FamilySettings, NodeSettings } from '../../backends/service-plan.ts';
import { type Family, parseCidr } from '../../native/ip.ts';
import type { Config } from '../config/types.ts';
import { hostAddresses, type InterfaceAddresses, nodePortAddresses } from './nodeport-addresses.ts';

export interface NodeSettingsOptions {
  readonly config: Config;
  readonly families: readonly Family[];
  /** Node.spec.podCIDRs as of the start (P-12). */
  readonly podCidrs: readonly string[];
  /** Node-port CIDRs, `primary` resolved (S-51). */
  readonly nodePortCidrs: readonly string[];
  readonly interfaces: readonly InterfaceAddresses[];
  readonly serviceCidrs: (family: Family) => readonly string[];
  /** nf_conntrack_tcp_be_liberal was on at the start (S-78). */
  readonly conntrackBeLiberal: boolean;
}

export function nodeSettings(options: NodeSettingsOptions): NodeSettings {
  const { config } = options;
  const families: Partial<Record<Family, FamilySettings>> = {};
  for (const family of options.families) {
    const { mode } = config;
    const setting = options.nodePortCidrs;
    const own = nodePortAddresses({ mode, family, setting, interfaces: options.interfaces });
    const localhostNodePorts = mode === 'iptables' && config.localhostNodePorts && own.containsIPv4Loopback;
    families[family] = {
      detectLocal: detectLocal(options, family),
      nodePortAddresses: localhostNodePorts ? (own.addresses ?? 'all') : own.served,
      localhostNodePorts,
      hostAddresses: mode === 'ipvs' ? hostAddresses(family, options.interfaces) : [],
      serviceCidrs: options.serviceCidrs(family),
    };
  }
  return {
    masqueradeAll: config.masqueradeAll,
    masqueradeBit: config.masqueradeBit,
    dropInvalid: !options.conntrackBeLiberal,
    families,
  };
}

/** S-64; null when the mode has nothing for this family (S-65). */
function detectLocal({ config, podCidrs }: NodeSettingsOptions, family: Family): DetectLocal | null {
  const first = (cidrs: readonly string[]): DetectLocal | null => {
    const cidr = cidrs.map(parseCidr).find((c) => c?.family === family);
    return cidr ? { by: 'cidr', cidr: cidr.text } : null;
  };
  switch (config.detectLocalMode) {
    case 'ClusterCIDR':
      return first(config.clusterCidrs);
    case 'NodeCIDR':
      return first(podCidrs);
    case 'BridgeInterface':
      return { by: 'interface', name: config.bridgeInterface };
    case 'InterfaceNamePrefix':
      return { by: 'interfacePrefix', prefix: config.interfaceNamePrefix };
  }
}
