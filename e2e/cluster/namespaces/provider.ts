// The cluster made of namespaces as a provider: no containers, no downloads.
import { namespacesMissing } from '../../../test/support/namespaces.ts';
import type { Options } from '../../options.ts';
import type { Cluster, ProxyMode } from '../cluster.ts';
import type { Provider } from '../provider.ts';
import { NamespacesCluster } from './cluster.ts';

export class NamespacesProvider implements Provider {
  readonly runs: readonly ProxyMode[];

  constructor(options: Options) {
    this.runs = options.modes;
  }

  /** An ordinary user's process is started again in a user namespace: then this does not return. */
  async missing(): Promise<string[]> {
    const reason = await namespacesMissing();
    return reason === null
      ? []
      : [`${reason} (Linux; root or user namespaces; Debian: apt-get install iproute2 nftables)`];
  }

  plan(): string[] {
    return this.runs.map((mode) => `two nodes as network namespaces, agents in mode ${mode}, the checks`);
  }

  open(mode: ProxyMode | null): Promise<Cluster> {
    return NamespacesCluster.create({ mode: mode!, note: (text) => process.stderr.write(`e2e: ${text}\n`) });
  }

  async collect(): Promise<void> {}

  async close(): Promise<void> {}
}
