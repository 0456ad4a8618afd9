// The fixed objects of the companion table: what nf_tables must know of Services so that packets of IPVS are
// masqueraded, filtered and rejected.
import type { BaseChain } from '../../native/nftables/batch.ts';
import type { Field } from '../nft-table/fields.ts';
import { HOOK, type SetShape, type TableLayout, tableLayout } from '../nft-table/layout.ts';

export const COMPANION_TABLE = 'kubeplumb-ipvs';

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

const SHAPES: Readonly<Record<CompanionSet, SetShape>> = Object.fromEntries(
  Object.entries(COMPANION_SETS).map(([set, key]) => [set, set === 'sources' ? { key, ranges: true } : { key }]),
) as Record<CompanionSet, SetShape>;

/**
 * IPVS rewrites packets that come in at priority 98 of `input`, and those of the node at -98 of `output`. Marking is for
 * nat chains, which see the first packet of a connection: the others would leave the node with the mark, and what a
 * tunnel makes of them would be masqueraded.
 */
const BASE_CHAINS: ReadonlyMap<string, BaseChain> = new Map([
  ['nat-prerouting', { type: 'nat', hook: HOOK.prerouting, priority: -100 }],
  ['nat-output', { type: 'nat', hook: HOOK.output, priority: -100 }],
  ['nat-postrouting', { type: 'nat', hook: HOOK.postrouting, priority: 100 }],
  ['filter-input', { type: 'filter', hook: HOOK.input, priority: 0 }],
  ['filter-output', { type: 'filter', hook: HOOK.output, priority: -110 }],
]);

export const COMPANION: TableLayout<CompanionSet> = tableLayout(COMPANION_TABLE, SHAPES, BASE_CHAINS);
