// Steps that concern the chains which choose endpoints, and the elements that lead to them.
import type { Family } from '../../native/ip.ts';
import type { Element } from '../../native/nftables/batch.ts';
import type { KernelTable } from '../nft-table/read.ts';
import type { TableSteps } from '../nft-table/table-plan.ts';
import type { NodeSettings } from '../service-plan.ts';
import { actionChain } from './action-chains.ts';
import { type Action, chainName, parseChainName } from './actions.ts';
import type { Operations } from './changes.ts';
import { LAYOUT, type SetName } from './schema.ts';

/** Steps that create chains which do not exist yet, before any word leads to them. */
export function newActionSteps(
  family: Family,
  settings: NodeSettings,
  actions: readonly Action[],
  elements: readonly Element[],
): TableSteps<SetName> {
  const additions: Operations['additions'] = new Map();
  if (elements.length > 0) {
    additions.set('actions', [...elements]);
    additions.set('local-actions', [...elements]);
  }
  return {
    layout: LAYOUT,
    family,
    replaceTable: 'none',
    newSets: [],
    newChains: actions.map(chainName),
    flushChains: [],
    newRules: actions.map((action) => [chainName(action), actionChain(family, settings, action)]),
    oldChains: [],
    oldSets: [],
    elements: { deletions: new Map(), additions },
  };
}

/** Chains of the kernel that an action of ours would have; they stay although nothing uses them now. */
export function knownActionChains(kernel: KernelTable<SetName>): Action[] {
  return [...kernel.chains].flatMap(([name, base]) => {
    const action = base === '' ? parseChainName(name) : null;
    return action && chainName(action) === name ? [action] : [];
  });
}

/** Only the operations on `actions` and `local-actions`, or all but those. */
export function actionOperations(operations: Operations, only: boolean): Operations {
  const pick = (lists: Map<SetName, Element[]>): Map<SetName, Element[]> =>
    new Map([...lists].filter(([set]) => (set === 'actions' || set === 'local-actions') === only));
  return { deletions: pick(operations.deletions), additions: pick(operations.additions) };
}
