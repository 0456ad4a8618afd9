// Sets of the companion table: what nf_tables must know of Services so that packets of IPVS are masqueraded, filtered
// and rejected.
import type { Field } from '../nft-table/fields.ts';

const FRONTEND: readonly Field[] = ['daddr', 'proto', 'port'];

/** Fields of the keys, in order. */
export const COMPANION_SETS = {
  /** Addresses bound to the dummy interface. */
  vips: ['daddr'],
  /** Cluster IPs with their ports. */
  cluster: FRONTEND,
  /** External IPs and load balancer IPs of policy Cluster, which are masqueraded, and those of policy Local. */
  masq: FRONTEND,
  direct: FRONTEND,
  /** Node ports of policy Cluster. */
  'node-masq': ['proto', 'port'],
  /** Load balancer IPs with source ranges, and the sources they allow; the source is a range. */
  limited: FRONTEND,
  sources: [...FRONTEND, 'saddr'],
  /** Endpoints of this node that may reach themselves. */
  hairpin: ['saddr', ...FRONTEND],
  /** Health check node ports. */
  health: ['port'],
} as const satisfies Record<string, readonly Field[]>;

export type CompanionSet = keyof typeof COMPANION_SETS;
