// The table as text from memory: what a running backend has applied, or what plans would lead to, without a kernel.
import { FAMILIES } from '../../native/ip.ts';
import { frontendKeyLength } from '../nft-table/keys.ts';
import { chainTexts, tableParts } from '../nft-table/text.ts';
import type { NodeSettings, ServicePlan } from '../service-plan.ts';
import type { Elements } from './changes.ts';
import { desiredTable, serviceElements } from './desired.ts';
import { serviceSelection } from './service-selection.ts';
import { ServiceTable } from './service-table.ts';

/**
 * Text of these tables as of the first part, in parts; only what concerns one Service with `service`
 * (`namespace/name`).
 */
export function* renderParts(
  settings: NodeSettings,
  tables: Iterable<ServiceTable>,
  service?: string,
): Generator<string> {
  const all = [...tables].map((table) => desiredTable(settings, table, serviceElements(table, service)));
  for (const [i, { layout, family, chains, elements }] of all.entries()) {
    if (i > 0) yield '\n';
    const selection =
      service === undefined ? undefined : serviceSelection(service, elements, frontendKeyLength(family));
    yield* tableParts({ layout, family, chains: chainTexts(chains), elements }, selection);
  }
}

/** The same in one piece. */
export function renderTables(settings: NodeSettings, tables: Iterable<ServiceTable>, service?: string): string {
  return [...renderParts(settings, tables, service)].join('');
}

/** Tables that a first start with these plans would lead to. */
export function tablesOf(settings: NodeSettings, plans: readonly ServicePlan[]): ServiceTable[] {
  const nothing: Elements = new Map();
  return FAMILIES.filter((family) => settings.families[family]).map((family) => {
    const table = new ServiceTable(family);
    for (const plan of plans) if (plan.family === family) table.adopt(plan, nothing);
    return table;
  });
}

/** The rules for these plans as `nft list table` prints them; needs no privileges. */
export function renderPlans(settings: NodeSettings, plans: readonly ServicePlan[], service?: string): string {
  return renderTables(settings, tablesOf(settings, plans), service);
}
