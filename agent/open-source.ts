// Where this agent's objects come from, as configured: manifests, or the API servers.
import type { Config } from './config/types.ts';
import type { Log } from './log.ts';
import { ApiServerSource } from './source/api-server.ts';
import { KubeClient, type RequestObserver } from './source/kube-client.ts';
import { ManifestsSource } from './source/manifests.ts';
import type { Source } from './source/source.ts';

export interface OpenedSource {
  readonly source: Source;
  /** null where there is no API server. The source closes it. */
  readonly client: KubeClient | null;
}

/** Connects nothing yet. @throws KubeConfigError when no API server is named, or the kubeconfig cannot be used. */
export function openSource(
  config: Config,
  { nodeName, log, observer }: { nodeName: string; log: Log; observer?: RequestObserver },
): OpenedSource {
  const { manifests, kubeconfig, master, apiServers } = config;
  if (manifests.length > 0) return { source: new ManifestsSource({ paths: manifests, nodeName, log }), client: null };
  const client = new KubeClient({
    kubeconfig: kubeconfig ?? undefined,
    server: master ?? undefined,
    apiServers,
    observer,
    onMove: ({ from, to, reason }) => log.warn('another API server is used from now on', { from, to, reason }),
  });
  return { source: new ApiServerSource({ client, nodeName, log }), client };
}
