// The rules that plans lead to, as text, without a kernel.
import { FAMILIES } from '../../native/ip.ts';
import type { NodeSettings, ServicePlan } from '../service-plan.ts';
import { saveTextOf } from './dump-text.ts';
import { isLargeCluster, tablesOf, tablesOfService } from './ruleset.ts';
import { renderService } from './service-rules.ts';

/** As `iptables-save` and `ip6tables-save` print them; only what concerns one Service with `service` (`namespace/name`). */
export function renderPlans(settings: NodeSettings, plans: readonly ServicePlan[], service?: string): string {
  const parts: string[] = [];
  for (const family of FAMILIES) {
    if (!settings.families[family]) continue;
    const own = plans.filter((plan) => plan.family === family);
    const largeCluster = isLargeCluster(own);
    if (service === undefined) {
      parts.push(
        ...saveTextOf(tablesOf(own, { settings, family, nfacct: [], randomFully: true, largeCluster }), family),
      );
      continue;
    }
    const plan = own.find(({ namespace, name }) => `${namespace}/${name}` === service);
    if (plan)
      parts.push(...saveTextOf(tablesOfService(renderService(plan, { settings, largeCluster, nfacct: [] })), family));
  }
  return parts.join('');
}
