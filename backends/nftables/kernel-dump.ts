// `dump --from kernel`: what the kernel holds now, whoever wrote it, as text.
import { FAMILIES, type Family } from '../../native/ip.ts';
import type { NftConnection } from '../../native/nftables/connection.ts';
import { frontendKeyLength } from '../nft-table/keys.ts';
import { kernelChainTexts, tableParts } from '../nft-table/text.ts';
import type { FamilySettings, NodeSettings } from '../service-plan.ts';
import { actionChain } from './action-chains.ts';
import { knownActionChains } from './action-steps.ts';
import { fixedChains } from './fixed-chains.ts';
import { readKernel } from './read.ts';
import { LAYOUT } from './schema.ts';
import { serviceSelection } from './service-selection.ts';

/** Rules that follow from `settings` are printed as nft does, others as their expressions. */
export async function dumpKernel(nft: NftConnection, settings: NodeSettings | null, service?: string): Promise<string> {
  const state = await readKernel(nft, FAMILIES);
  const parts: string[] = [];
  for (const [family, table] of state.tables) {
    const known = new Map<string, string>();
    if (settings?.families[family]) {
      for (const variant of nodePortVariants(settings, settings.families[family], family)) {
        const chains = [
          ...fixedChains(family, variant).values(),
          ...knownActionChains(table).map((a) => actionChain(family, variant, a)),
        ];
        for (const rule of chains.flat()) known.set(JSON.stringify(rule.expressions), rule.text);
      }
    }
    const view = { layout: LAYOUT, family, chains: kernelChainTexts(table, known), elements: table.elements };
    const selection =
      service === undefined ? undefined : serviceSelection(service, table.elements, frontendKeyLength(family));
    parts.push([...tableParts(view, selection)].join(''));
  }
  return parts.join('\n');
}

/** Rules for any choice of node-port addresses: who dumps may not know the choice in force. */
function nodePortVariants(settings: NodeSettings, own: FamilySettings, family: Family): NodeSettings[] {
  return (['all', []] as const).map((nodePortAddresses) => ({
    ...settings,
    families: { ...settings.families, [family]: { ...own, nodePortAddresses } },
  }));
}
