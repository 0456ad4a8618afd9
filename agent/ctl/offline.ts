// Rules and explanations of a node from manifests alone: the agent's own way from objects to rules, without a kernel.
import { renderPlans as renderIptables } from '../../backends/iptables/render.ts';
import { renderPlans as renderIpvs } from '../../backends/ipvs/render.ts';
import { renderPlans as renderNftables } from '../../backends/nftables/render.ts';
import type { NodeSettings, ServicePlan } from '../../backends/service-plan.ts';
import { FAMILIES } from '../../native/ip.ts';
import { schedulerOf } from '../config/scheduler.ts';
import type { Config } from '../config/types.ts';
import { Explainer } from '../explain/explainer.ts';
import { nodeAddresses } from '../plan/node-addresses.ts';
import { nodeSettings } from '../plan/node-settings.ts';
import { resolvePrimary } from '../plan/nodeport-addresses.ts';
import { ManifestReader } from '../source/manifest-set.ts';
import { State } from '../state/state.ts';
import { Planner } from '../sync/planner.ts';
import { CommandError } from './command.ts';

export interface OfflineOptions {
  /** Files or folders. */
  readonly paths: readonly string[];
  /** Normalised (P-9). */
  readonly nodeName: string;
  readonly config: Config;
}

export interface Offline {
  readonly explainer: Explainer;
  rules(service?: string): string;
  /** Manifests that could not be read, or not be understood. */
  readonly warnings: readonly string[];
}

/** @throws CommandError when a path cannot be read at all */
export async function renderOffline({ paths, nodeName, config }: OfflineOptions): Promise<Offline> {
  const scheduler = schedulerOf(config);
  const { objects, errors, complete } = await new ManifestReader(paths, nodeName).read();
  if (!complete) throw new CommandError(errors.join('\n'));
  const state = new State({
    nodeName,
    startedMs: 0,
    allowExternalIPs: config.featureGates.AllowServiceExternalIPs ?? true,
  });
  for (const { kind, object } of objects) state.apply(kind, object);
  state.takeChanges(); // settles who owns contested frontends
  const addresses = nodeAddresses({ node: state.node, bindAddress: config.bindAddress });
  const settings = settingsWithout(state, config, addresses);
  const plans = await new Planner({ state, families: FAMILIES, addresses }).all();
  const warnings = [...errors];
  if (state.node === null) warnings.push(`no Node ${nodeName} among the manifests: its addresses and zone are unknown`);
  return {
    explainer: new Explainer({ state, families: FAMILIES, addresses, settings, scheduler, refused: [] }),
    rules: (service) => rulesOf(config, settings, plans, service),
    warnings,
  };
}

function rulesOf(config: Config, settings: NodeSettings, plans: readonly ServicePlan[], service?: string): string {
  const scheduler = schedulerOf(config);
  if (scheduler !== null) return renderIpvs(settings, plans, { scheduler }, service);
  return (config.mode === 'iptables' ? renderIptables : renderNftables)(settings, plans, service);
}

/** The node's interfaces are unknown here: the addresses that its Node lists stand for them. */
function settingsWithout(state: State, config: Config, addresses: ReturnType<typeof nodeAddresses>): NodeSettings {
  const listed = state.node?.addresses.map(({ ip }) => ip) ?? [];
  return nodeSettings({
    conntrackBeLiberal: false,
    config,
    families: FAMILIES,
    podCidrs: state.node?.podCidrs ?? [],
    nodePortCidrs: resolvePrimary(config.nodePortAddresses, addresses),
    interfaces: [{ name: '', addresses: listed }],
    serviceCidrs: (family) => state.serviceCidrs(family),
  });
}
