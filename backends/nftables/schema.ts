// The fixed objects of the table: sets, maps and base chains. Their number does not depend on the number of Services.
// docs/nftables.md explains them.
import type { Family } from '../../native/ip.ts';
import type { BaseChain, SetDeclaration } from '../../native/nftables/batch.ts';
import { SET_FLAG, TYPE_VERDICT } from '../../native/nftables/constants.ts';
import { concatType, type Field, fieldLength, setUserdata } from '../nft-table/fields.ts';

export const TABLE = 'kubeplumb';
/** Comment of the table; an incompatible layout gets another table name, so this never changes. */
export const TABLE_COMMENT = 'kubeplumb schema=1';
/** libnftnl userdata of the table's comment. */
export const TABLE_USERDATA = `\0${String.fromCharCode(TABLE_COMMENT.length + 1)}${TABLE_COMMENT}\0`;

/** How many clients session affinity remembers in each family. */
export const AFFINITY_SIZE = 262_144;
const DEFAULT_AFFINITY_MS = 10_800_000;

/** A frontend as key: address, protocol, port. Node ports have address zero. */
const FE: readonly Field[] = ['daddr', 'proto', 'port'];
const ENDPOINT: readonly Field[] = ['daddr', 'port'];

interface Shape {
  readonly key: readonly Field[];
  readonly data?: readonly Field[] | 'verdict';
  readonly kind?: 'memory' | 'ranges';
}

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
  'source-allowed': { key: [...FE, 'saddr'], kind: 'ranges' },
  'affinity-services': { key: FE, data: ['word'] },
  affinity: { key: ['word', 'saddr'], data: ['word'], kind: 'memory' },
  'affinity-slots': { key: [...FE, 'index'], data: ['word'] },
  'local-affinity-slots': { key: [...FE, 'index'], data: ['word'] },
  'affinity-endpoints': { key: [...FE, 'word'], data: ENDPOINT },
  'local-affinity-endpoints': { key: [...FE, 'word'], data: ENDPOINT },
} as const satisfies Record<string, Shape>;

export type SetName = keyof typeof SHAPES;
export const SET_NAMES = Object.keys(SHAPES) as SetName[];

export const keyFields = (set: SetName): readonly Field[] => SHAPES[set].key;
export const dataFields = (set: SetName): readonly Field[] | 'verdict' | null => (SHAPES[set] as Shape).data ?? null;

function declare(name: SetName, family: Family): SetDeclaration {
  const shape: Shape = SHAPES[name];
  const bytes = (fields: readonly Field[]): number => fields.reduce((sum, f) => sum + fieldLength(f, family), 0);
  const base = {
    name,
    keyType: concatType(shape.key, family),
    keyLength: bytes(shape.key),
    userdata: setUserdata(shape.key, shape.data ?? null, family),
  };
  if (shape.kind === 'ranges') {
    const widths = { daddr: 0, saddr: 0, proto: 1, port: 2, index: 4, word: 4 };
    const concat = shape.key.map((f) => widths[f] || fieldLength(f, family));
    return { ...base, flags: SET_FLAG.interval | SET_FLAG.concat, concat };
  }
  if (!shape.data) return { ...base, flags: 0 };
  if (shape.data === 'verdict') return { ...base, flags: SET_FLAG.map, dataType: TYPE_VERDICT };
  const map = { ...base, dataType: concatType(shape.data, family), dataLength: bytes(shape.data) };
  if (shape.kind !== 'memory') return { ...map, flags: SET_FLAG.map };
  const flags = SET_FLAG.map | SET_FLAG.timeout | SET_FLAG.dynamic;
  return { ...map, flags, timeoutMs: DEFAULT_AFFINITY_MS, size: AFFINITY_SIZE };
}

const declareAll = (family: Family): Record<SetName, SetDeclaration> =>
  Object.fromEntries(SET_NAMES.map((name) => [name, declare(name, family)])) as Record<SetName, SetDeclaration>;

/** Declarations of all sets, by family and name. */
export const SETS: Readonly<Record<Family, Readonly<Record<SetName, SetDeclaration>>>> = {
  IPv4: declareAll('IPv4'),
  IPv6: declareAll('IPv6'),
};

const HOOK = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const;

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
