// `dump --from kernel`: what the kernel holds now, whoever wrote it, as text.
import { FAMILIES } from '../../native/ip.ts';
import type { NftConnection } from '../../native/nftables/connection.ts';
import type { NodeSettings } from '../service-plan.ts';
import { frontendKeyLength } from './elements.ts';
import { readKernel } from './read.ts';
import { actionChain, fixedChains } from './rules.ts';
import { knownActionChains } from './table-plan.ts';
import { kernelChainTexts, serviceFilter, tableText } from './text.ts';

/** Rules that follow from `settings` are printed as nft does, others as their expressions. */
export function dumpKernel(nft: NftConnection, settings: NodeSettings | null, service?: string): string {
  const state = readKernel(nft, FAMILIES);
  const parts: string[] = [];
  for (const [family, table] of state.tables) {
    const known = new Map<string, string>();
    if (settings?.families[family]) {
      const chains = [
        ...fixedChains(family, settings).values(),
        ...knownActionChains(table).map((a) => actionChain(family, settings, a)),
      ];
      for (const rule of chains.flat()) known.set(JSON.stringify(rule.expressions), rule.text);
    }
    const view = { family, chains: kernelChainTexts(table, known), elements: table.elements };
    parts.push(
      tableText(
        view,
        service === undefined ? undefined : serviceFilter(service, table.elements, frontendKeyLength(family)),
      ),
    );
  }
  return parts.join('\n');
}
