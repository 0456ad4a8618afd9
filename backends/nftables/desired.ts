// The whole table of a family as it shall be: fixed chains, action chains, and all elements.

import { Breather } from '../../native/breather.ts';
import { ipBytes } from '../../native/ip.ts';
import type { Element } from '../../native/nftables/batch.ts';
import type { Rule } from '../nft-table/rule-parts.ts';
import type { DesiredTable } from '../nft-table/table-plan.ts';
import type { NodeSettings } from '../service-plan.ts';
import { actionChain } from './action-chains.ts';
import type { Action } from './actions.ts';
import type { Elements } from './changes.ts';
import { fixedChains } from './fixed-chains.ts';
import { LAYOUT, type SetName } from './schema.ts';
import { POLICY_LOCAL_ACTIONS, type ServiceTable } from './service-table.ts';

const upTo = (count: number, prefixes: readonly Action['prefix'][]): Action[] =>
  prefixes.flatMap((prefix) =>
    Array.from({ length: count }, (_, i) => ({ prefix, count: i + 1, affinitySeconds: null })),
  );

/** Chains that exist from the start, so that scaling a Service rarely needs a transaction for a new chain. */
export const STANDING_ACTIONS: readonly Action[] = [
  ...upTo(16, ['lb', 'np-lb']),
  ...upTo(8, ['mq', 'np-mq']),
  ...upTo(4, ['ll', 'np-ll']),
];

const keyed = (elements: Iterable<Element>): Map<string, Element> => new Map([...elements].map((e) => [e.key, e]));

/** Addresses that accept node ports; empty when every local address does. */
export function nodePortElements(settings: NodeSettings, family: ServiceTable['family']): Map<string, Element> {
  const accepted = settings.families[family]?.nodePortAddresses ?? 'all';
  return keyed(accepted === 'all' ? [] : accepted.map((ip) => ({ key: ipBytes(ip)! })));
}

/** Chains with their rules. */
export function desiredChains(settings: NodeSettings, table: ServiceTable): Map<string, readonly Rule[]> {
  const chains = new Map<string, readonly Rule[]>(fixedChains(table.family, settings));
  for (const [name, action] of table.actions) chains.set(name, actionChain(table.family, settings, action));
  return chains;
}

/** All elements that the Services of a table need, or those of one with `service` (`namespace/name`). */
export function serviceElements(table: ServiceTable, service?: string): Elements {
  const elements: Elements = new Map<SetName, Map<string, Element>>();
  const states = service === undefined ? table.services.values() : [table.services.get(service)];
  for (const state of states) if (state) table.render(state, elements);
  return elements;
}

/** The same, giving the event loop a turn now and then. No Service may change meanwhile. */
export async function serviceElementsInTurns(table: ServiceTable): Promise<Elements> {
  const elements: Elements = new Map<SetName, Map<string, Element>>();
  const breather = new Breather();
  for (const state of table.services.values()) {
    table.render(state, elements);
    if (breather.due) await breather.rest();
  }
  return elements;
}

/**
 * The table that holds `elements` (of its Services) and the standing objects. Also makes the table have the standing
 * actions and those its Services use.
 */
export function desiredTable(
  settings: NodeSettings,
  table: ServiceTable,
  elements = serviceElements(table),
): DesiredTable<SetName> {
  table.haveActions(STANDING_ACTIONS);
  table.haveActions(table.missingActions(elements));
  const actions = table.actionElements(table.actions.values());
  elements.set('actions', keyed([...POLICY_LOCAL_ACTIONS, ...actions]));
  elements.set('local-actions', keyed(actions));
  elements.set('nodeport-ips', nodePortElements(settings, table.family));
  return { layout: LAYOUT, family: table.family, chains: desiredChains(settings, table), elements };
}
