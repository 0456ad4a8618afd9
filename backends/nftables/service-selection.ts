// Which elements and chains of the table concern one Service, for a text of these alone.
import type { Element } from '../../native/nftables/batch.ts';
import type { Selection } from '../nft-table/text.ts';
import type { Elements } from './changes.ts';
import type { SetName } from './schema.ts';

/** Maps whose words lead to chains; those of affinity maps may look the same. */
const LEADING: ReadonlySet<SetName> = new Set(['services', 'nodeports', 'short-circuit', 'local-only']);

/** Selects what one Service (`namespace/name`) has: the elements of its frontends, its actions and their chains. */
export function serviceSelection(service: string, elements: Elements, keyLength: number): Selection<SetName> {
  const isItsComment = (comment: string | undefined): boolean =>
    comment === service || comment?.startsWith(`${service}:`) === true;
  const frontends = new Set<string>();
  const words = new Set<string>();
  for (const set of ['services', 'nodeports', 'no-endpoints-reject', 'no-endpoints-drop'] as const) {
    for (const e of elements.get(set)?.values() ?? []) if (isItsComment(e.comment)) frontends.add(e.key);
  }
  for (const set of LEADING) {
    for (const e of elements.get(set)?.values() ?? []) if (frontends.has(e.key)) words.add(e.data!);
  }
  const addresses = new Set([...frontends].map((fe) => fe.slice(0, keyLength - 8)));
  const endpoints = new Set<string>();
  for (const set of ['endpoints', 'local-endpoints', 'affinity-endpoints', 'local-affinity-endpoints'] as const) {
    for (const e of elements.get(set)?.values() ?? [])
      if (frontends.has(e.key.slice(0, keyLength))) endpoints.add(e.data!);
  }
  const includes = (set: SetName, e: Element): boolean => {
    if (set === 'actions') return words.has(e.key);
    if (set === 'local-actions' || set === 'nodeport-ips' || set === 'affinity') return false;
    if (set === 'cluster-ips') return addresses.has(e.key);
    if (set === 'hairpin') return endpoints.has(e.key.slice(0, keyLength - 8) + e.key.slice(-4));
    return frontends.has(e.key.slice(0, keyLength));
  };
  return {
    includes,
    chainsOf(set, { data }) {
      if (!LEADING.has(set) || data === undefined) return [];
      const chain = elements.get('actions')?.get(data)?.data;
      return chain === undefined ? [] : [chain];
    },
  };
}
