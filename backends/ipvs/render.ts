// What plans lead to in ipvs mode, as text, without a kernel.
import { FAMILIES } from '../../native/ip.ts';
import type { Element } from '../../native/nftables/batch.ts';
import type { NodeSettings, ServicePlan } from '../service-plan.ts';
import { companionParts, desiredCompanion } from './companion.ts';
import type { CompanionSet } from './companion-schema.ts';
import { dumpParts, type ListedServer, viewOf } from './dump-text.ts';
import { type ServiceObjects, serviceObjects, type WantedServer } from './service-objects.ts';
import type { IpvsSettings } from './settings.ts';

/** As `agentctl dump` prints it; only what concerns one Service with `service` (`namespace/name`). */
export function renderPlans(
  settings: NodeSettings,
  plans: readonly ServicePlan[],
  ipvs: Pick<IpvsSettings, 'scheduler'>,
  service?: string,
): string {
  const servers = new Map<string, WantedServer>();
  const addresses = new Set<string>();
  const selected: ServiceObjects[] = [];
  const tables: string[] = [];
  for (const family of FAMILIES) {
    if (!settings.families[family]) continue;
    const elements = new Map<CompanionSet, Map<string, Element>>();
    let own: ServiceObjects | undefined;
    for (const plan of plans.filter((p) => p.family === family)) {
      const objects = serviceObjects(plan, settings, ipvs);
      if (`${plan.namespace}/${plan.name}` === service) own = objects;
      // What two Services want is the first one's.
      for (const [key, server] of objects.servers) if (!servers.has(key)) servers.set(key, server);
      for (const ip of objects.addresses) addresses.add(ip);
      for (const [set, wanted] of objects.elements) {
        const all = elements.get(set) ?? new Map<string, Element>();
        elements.set(set, all);
        for (const [key, element] of wanted) if (!all.has(key)) all.set(key, element);
      }
    }
    if (own) selected.push(own);
    if (service !== undefined && !own) continue;
    const table = [...companionParts(desiredCompanion(family, settings, elements), own?.elements)].join('');
    tables.push(tables.length > 0 ? `\n${table}` : table);
  }
  const listed = [...servers.values()].map(
    ({ server, endpoints }): ListedServer => ({
      server,
      realServers: endpoints.map(({ ip, port }) => ({ ip, port, weight: 1 })),
    }),
  );
  const view = { servers: listed, addresses };
  return [...dumpParts(service === undefined ? view : viewOf(view, selected), tables)].join('');
}
