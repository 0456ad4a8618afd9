// Whose fault is it that the kernel refused a transaction?
import type { Refusal } from '../../native/nftables/results.ts';
import type { RefusedService } from '../backend.ts';
import { renderService, type ServiceState } from './elements.ts';
import type { ServiceTable } from './service-table.ts';

/** Those of the Services in `states` whose elements the kernel names in its refusals; empty when it names none. */
export function refusedServices(
  table: ServiceTable,
  states: ReadonlyMap<string, ServiceState | null>,
  refusals: readonly Refusal[],
): RefusedService[] {
  const out = new Map<string, RefusedService>();
  for (const refusal of refusals) {
    if (refusal.family !== table.family || refusal.set === null || refusal.key === null) continue;
    for (const [service, state] of states) {
      const old = table.services.get(service);
      let named = false;
      for (const s of [old, state]) {
        if (s)
          renderService(
            s,
            table.words,
            (set, element) => (named ||= set === refusal.set && element.key === refusal.key),
          );
      }
      if (named) out.set(service, { service, family: table.family, message: refusal.message });
    }
  }
  return [...out.values()];
}
