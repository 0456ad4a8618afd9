// What is decided once, when the own Node is known: addresses, families, node-port CIDRs; and how later changes of the
// Node are taken (P-12…P-14, P-20…P-22, S-51).
import type { Family } from '../native/ip.ts';
import { familyWarnings } from './config/family-warnings.ts';
import { type Config, ConfigError } from './config/types.ts';
import { supportedFamilies } from './host.ts';
import type { Log } from './log.ts';
import { type NodeAddresses, nodeAddresses } from './plan/node-addresses.ts';
import { resolvePrimary } from './plan/nodeport-addresses.ts';
import type { Node } from './state/node.ts';

export interface NodeFacts {
  readonly addresses: NodeAddresses;
  readonly families: readonly Family[];
  readonly podCidrs: readonly string[];
  /** `primary` resolved. */
  readonly nodePortCidrs: readonly string[];
}

export interface NodeFactsOptions {
  readonly config: Config;
  readonly log: Log;
  /** Families that the backend cannot serve, with the reason. */
  readonly unusable?: ReadonlyMap<Family, string> | undefined;
}

/** `node`: null if it is not known. @throws Error when this node cannot be served as configured. */
export function nodeFacts(node: Node | null, { config, log, unusable }: NodeFactsOptions): NodeFacts {
  const addresses = nodeAddresses({ node, bindAddress: config.bindAddress });
  const families = supportedFamilies(addresses.primaryFamily, unusable);
  const nodePortCidrs = resolvePrimary(config.nodePortAddresses, addresses);
  const podCidrs = node?.podCidrs ?? [];
  const { primaryFamily } = addresses;
  const { warnings, fatal } = familyWarnings({ config, primaryFamily, families, podCidrs, nodePortCidrs });
  for (const warning of warnings) log.warn(warning);
  if (fatal.length > 0) throw new ConfigError(fatal);
  log.info('this node', { ...addresses, families });
  return { addresses, families, podCidrs, nodePortCidrs };
}

/** Compares the Node with what it was at the start. */
export class NodeChanges {
  readonly #config: Config;
  readonly #log: Log;
  #first: Node | null;
  #addresses: string;

  /** `node`: as of the start. */
  constructor(node: Node | null, { config, log }: { config: Config; log: Log }) {
    this.#config = config;
    this.#log = log;
    this.#first = node;
    this.#addresses = JSON.stringify(node?.addresses ?? []);
  }

  /** Says why the agent must be started anew, or null. Changed addresses are only told (P-13). */
  updated(node: Node): string | null {
    const addresses = JSON.stringify(node.addresses);
    if (addresses !== this.#addresses) {
      const now = node.addresses.map(({ ip }) => ip);
      this.#log.warn('the addresses of this Node changed; those of the start stay in use', { node: node.name, now });
    }
    this.#addresses = addresses;
    // P-12: the detector was built from the old ones.
    const before = this.#first?.podCidrs ?? [];
    if (this.#config.detectLocalMode !== 'NodeCIDR' || before.join() === node.podCidrs.join()) return null;
    const text = (cidrs: readonly string[]): string => cidrs.join(',') || 'none';
    return `the pod CIDRs of this Node changed from ${text(before)} to ${text(node.podCidrs)}`;
  }

  /** Its last state stays in force (P-13, P-47). */
  removed(): void {
    this.#log.warn('this Node was deleted; its last state stays in use', { node: this.#first?.name });
  }
}
