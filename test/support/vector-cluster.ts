// From the input of a vector to what a backend is given: state, plans, settings of the node.
import { loadConfig } from '../../agent/config/load.ts';
import type { Config, ProxyMode } from '../../agent/config/types.ts';
import { nodeAddresses } from '../../agent/plan/node-addresses.ts';
import { nodeSettings } from '../../agent/plan/node-settings.ts';
import { resolvePrimary } from '../../agent/plan/nodeport-addresses.ts';
import type { State } from '../../agent/state/state.ts';
import { Planner } from '../../agent/sync/planner.ts';
import type { NodeSettings } from '../../backends/service-plan.ts';
import { canonicalIP, FAMILIES } from '../../native/ip.ts';
import { stateOf } from '../vectors/vector.ts';

export interface VectorCluster {
  readonly config: Config;
  readonly state: State;
  readonly settings: NodeSettings;
  readonly planner: Planner;
  /** All addresses of the host. */
  readonly localAddresses: readonly string[];
}

/** `input`: form X-16. */
// biome-ignore lint/suspicious/noExplicitAny: test data whose form depends on the kind
export function clusterOf(input: any, mode: ProxyMode = 'nftables'): VectorCluster {
  const file = {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    ...input.config,
    mode,
  };
  const loaded = loadConfig({ argv: ['--config=config.conf'], readFile: () => JSON.stringify(file) });
  if (loaded.action !== 'run') throw new Error(`unexpected action ${loaded.action}`);
  const { config } = loaded;
  const state = stateOf({ ...input, allowExternalIPs: config.featureGates.AllowServiceExternalIPs ?? true });
  const addresses = nodeAddresses({ node: state.node, bindAddress: config.bindAddress });
  const interfaces: { name: string; addresses: string[] }[] = input.interfaces.map(
    (device: { name: string; addresses: string[] }) => ({
      name: device.name,
      addresses: device.addresses.map((address) => canonicalIP(address.split('/')[0]!)!),
    }),
  );
  const settings = nodeSettings({
    conntrackBeLiberal: false,
    config,
    families: FAMILIES,
    podCidrs: state.node?.podCidrs ?? [],
    nodePortCidrs: resolvePrimary(config.nodePortAddresses, addresses),
    interfaces,
    serviceCidrs: (family) => state.serviceCidrs(family),
  });
  const planner = new Planner({ state, families: FAMILIES, addresses });
  return { config, state, settings, planner, localAddresses: interfaces.flatMap((device) => device.addresses) };
}
