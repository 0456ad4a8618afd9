// What a table of this project consists of, apart from rules and elements: its sets and base chains, the same for all
// Services.
import type { Family } from '../../native/ip.ts';
import { type BaseChain, commentUserdata, type SetDeclaration } from '../../native/nftables/batch.ts';
import { SET_FLAG, TYPE_VERDICT } from '../../native/nftables/constants.ts';
import { concatType, type Field, fieldsLength, fieldWidth, setUserdata } from './fields.ts';

/** Comment of every table; an incompatible layout gets another table name, so this never changes. */
export const TABLE_COMMENT = 'kubeplumb schema=1';
/** libnftnl userdata of the table's comment. */
export const TABLE_USERDATA = commentUserdata(TABLE_COMMENT);

/** Numbers of hooks in both families. */
export const HOOK = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const;

export interface SetShape {
  readonly key: readonly Field[];
  /** Absent for a set. */
  readonly data?: readonly Field[] | 'verdict';
  /** The last field of the key is a range. */
  readonly ranges?: true;
  /** Packets write elements, at most `size`, which stay for this long by default. */
  readonly memory?: { readonly size: number; readonly timeoutMs: number };
}

export interface TableLayout<S extends string> {
  readonly name: string;
  /** In the order in which they are created and shown. */
  readonly setNames: readonly S[];
  readonly shapes: Readonly<Record<S, SetShape>>;
  readonly sets: Readonly<Record<Family, Readonly<Record<S, SetDeclaration>>>>;
  readonly baseChains: ReadonlyMap<string, BaseChain>;
}

/** The layout of a table with these sets and base chains. */
export function tableLayout<S extends string>(
  name: string,
  shapes: Readonly<Record<S, SetShape>>,
  baseChains: ReadonlyMap<string, BaseChain>,
): TableLayout<S> {
  const setNames = Object.keys(shapes) as S[];
  const declareAll = (family: Family): Record<S, SetDeclaration> =>
    Object.fromEntries(setNames.map((set) => [set, declare(set, shapes[set], family)])) as Record<S, SetDeclaration>;
  return { name, setNames, shapes, sets: { IPv4: declareAll('IPv4'), IPv6: declareAll('IPv6') }, baseChains };
}

function declare(name: string, shape: SetShape, family: Family): SetDeclaration {
  const { key, data, ranges, memory } = shape;
  const base = {
    name,
    keyType: concatType(key, family),
    keyLength: fieldsLength(key, family),
    userdata: setUserdata(key, data ?? null, family),
  };
  if (ranges) {
    return { ...base, flags: SET_FLAG.interval | SET_FLAG.concat, concat: key.map((f) => fieldWidth(f, family)) };
  }
  if (!data) return { ...base, flags: 0 };
  if (data === 'verdict') return { ...base, flags: SET_FLAG.map, dataType: TYPE_VERDICT };
  const map = { ...base, dataType: concatType(data, family), dataLength: fieldsLength(data, family) };
  if (!memory) return { ...map, flags: SET_FLAG.map };
  return { ...map, flags: SET_FLAG.map | SET_FLAG.timeout | SET_FLAG.dynamic, ...memory };
}
