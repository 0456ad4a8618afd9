// Can the kernel hold a table? Tried in one transaction that creates everything and deletes it again.
import type { Family } from '../../native/ip.ts';
import type { NftConnection } from '../../native/nftables/connection.ts';
import { TABLE_USERDATA, type TableLayout } from './layout.ts';
import type { Rule } from './rule-parts.ts';

/** @throws Error with the reason why the kernel cannot hold these sets and chains. */
export async function probeTable<S extends string>(
  nft: NftConnection,
  layout: TableLayout<S>,
  family: Family,
  chains: ReadonlyMap<string, readonly Rule[]>,
): Promise<void> {
  const batch = nft.batch('kubeplumb-probe');
  batch.addTable(family, TABLE_USERDATA);
  for (const set of layout.setNames) batch.addSet(family, layout.sets[family][set]);
  for (const chain of chains.keys()) batch.addChain(family, chain, layout.baseChains.get(chain));
  for (const [chain, rules] of chains) for (const rule of rules) batch.addRule(family, chain, rule.expressions);
  batch.deleteTable(family);
  const result = await nft.commit(batch);
  if (result.outcome === 'committed') return;
  if (result.outcome === 'refused' && result.refusals.some((r) => r.code === 'EPERM')) {
    throw new Error('not permitted to change nftables: this needs CAP_NET_ADMIN in the network namespace of the node');
  }
  const reason = result.outcome === 'refused' ? result.refusals.map((r) => r.message).join('; ') : 'no reply';
  throw new Error(`this kernel cannot hold the nftables rules: ${reason}`);
}
