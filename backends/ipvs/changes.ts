// What a change of Services concerns in the kernel, put together from several changes.
import type { Family } from '../../native/ip.ts';
import { serverKey, type VirtualServer } from '../../native/ipvs/objects.ts';
import { type Touched, touch } from './ledger.ts';

/** A Service, and what its change concerns; '' for what is nobody's. */
export interface Change {
  readonly service: string;
  readonly family: Family;
  readonly touched: Touched;
}

/** What changes concern, each once, in order. */
export function union(changes: readonly Change[], of: (touched: Touched) => Iterable<string>): string[] {
  const out = new Set<string>();
  for (const { touched } of changes) for (const value of of(touched)) out.add(value);
  return [...out];
}

/** One change for each Service and family, with what all of its changes concern. */
export function merged(changes: readonly Change[]): Change[] {
  const out = new Map<string, Change>();
  for (const change of changes) {
    const key = `${change.family} ${change.service}`;
    const known = out.get(key);
    if (!known) {
      out.set(key, change);
      continue;
    }
    const touched: Touched = {
      servers: new Set([...known.touched.servers, ...change.touched.servers]),
      addresses: new Set([...known.touched.addresses, ...change.touched.addresses]),
      elements: elementsOf([known, change]).get(change.family)!,
    };
    out.set(key, { ...change, touched });
  }
  return [...out.values()];
}

/** Elements of the companion tables that changes concern. */
export function elementsOf(changes: readonly Change[]): Map<Family, Touched['elements']> {
  const out = new Map<Family, Touched['elements']>();
  for (const { family, touched } of changes) {
    let all = out.get(family);
    if (!all) out.set(family, (all = new Map()));
    for (const [set, keys] of touched.elements) for (const key of keys) touch(all, set, key);
  }
  return out;
}

/** A virtual server that nobody wants any more, with its address. */
export const changeOf = (server: VirtualServer): Change => ({
  service: '',
  family: server.family,
  touched: { servers: new Set([serverKey(server)]), addresses: new Set([server.ip]), elements: new Map() },
});
