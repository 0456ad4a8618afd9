// The fixed objects of the table: sets, maps and base chains. Their number does not depend on the number of Services.
// docs/nftables.md explains them.
import type { BaseChain } from '../../native/nftables/batch.ts';
import type { Field } from '../nft-table/fields.ts';
import { HOOK, type SetShape, type TableLayout, tableLayout } from '../nft-table/layout.ts';

export const TABLE = 'kubeplumb';

/** How many clients session affinity remembers in each family. */
export const AFFINITY_SIZE = 262_144;
const DEFAULT_AFFINITY_MS = 10_800_000;

/** A frontend as key: address, protocol, port. Node ports have address zero. */
const FE: readonly Field[] = ['daddr', 'proto', 'port'];
const ENDPOINT: readonly Field[] = ['daddr', 'port'];

const SHAPES = {
  'cluster-ips': { key: ['daddr'] },
  services: { key: FE, data: ['word'] },
  nodeports: { key: FE, data: ['word'] },
  actions: { key: ['word'], data: 'verdict' },
  'local-actions': { key: ['word'], data: 'verdict' },
  'short-circuit': { key: FE, data: ['word'] },
  'local-only': { key: FE, data: ['word'] },
  endpoints: { key: [...FE, 'index'], data: ENDPOINT },
  'local-endpoints': { key: [...FE, 'index'], data: ENDPOINT },
  'no-endpoints-reject': { key: FE },
  'no-endpoints-drop': { key: FE },
  'nodeport-ips': { key: ['daddr'] },
  hairpin: { key: ['saddr', ...FE] },
  'source-restricted': { key: FE },
  'source-allowed': { key: [...FE, 'saddr'], ranges: true },
  'affinity-services': { key: FE, data: ['word'] },
  affinity: { key: ['word', 'saddr'], data: ['word'], memory: { size: AFFINITY_SIZE, timeoutMs: DEFAULT_AFFINITY_MS } },
  'affinity-slots': { key: [...FE, 'index'], data: ['word'] },
  'local-affinity-slots': { key: [...FE, 'index'], data: ['word'] },
  'affinity-endpoints': { key: [...FE, 'word'], data: ENDPOINT },
  'local-affinity-endpoints': { key: [...FE, 'word'], data: ENDPOINT },
} as const satisfies Record<string, SetShape>;

export type SetName = keyof typeof SHAPES;

/** Base chains (N-6): names, hooks and priorities are part of the contract with other tables (N-7). Policy accept. */
export const BASE_CHAINS: ReadonlyMap<string, BaseChain> = new Map([
  ['filter-prerouting-pre-dnat', { type: 'filter', hook: HOOK.prerouting, priority: -110 }],
  ['filter-output-pre-dnat', { type: 'filter', hook: HOOK.output, priority: -110 }],
  ['nat-prerouting', { type: 'nat', hook: HOOK.prerouting, priority: -100 }],
  ['nat-output', { type: 'nat', hook: HOOK.output, priority: -100 }],
  ['nat-postrouting', { type: 'nat', hook: HOOK.postrouting, priority: 100 }],
  ['filter-input', { type: 'filter', hook: HOOK.input, priority: 0 }],
  ['filter-forward', { type: 'filter', hook: HOOK.forward, priority: 0 }],
  ['filter-output', { type: 'filter', hook: HOOK.output, priority: 0 }],
]);

export const LAYOUT: TableLayout<SetName> = tableLayout(TABLE, SHAPES, BASE_CHAINS);
/** Declarations of all sets, by family and name. */
export const SETS = LAYOUT.sets;
export const SET_NAMES = LAYOUT.setNames;
