// `--init-only` (P-6): all that needs more rights than CAP_NET_ADMIN, as a normal start does it, and no rules.
import { hostname } from 'node:os';
import { createBackend } from './backend.ts';
import { nodeName } from './config/node-name.ts';
import { tcpBeLiberal } from './host.ts';
import { Incidents } from './incidents.ts';
import { setConntrack } from './kernel-settings.ts';
import { nodeFacts } from './node-facts.ts';
import { openSource } from './open-source.ts';
import { nodeSettings } from './plan/node-settings.ts';
import type { RunOptions } from './run.ts';
import { State } from './state/state.ts';
import { StateSink } from './sync/state-sink.ts';
import { waitForNode } from './wait-for-node.ts';

/** Returns when this node is prepared. @throws Error when something cannot be set, or `stop` is aborted before. */
export async function initOnly({ config, log, stop }: RunOptions): Promise<void> {
  const node = nodeName(config.hostnameOverride, hostname());
  const state = new State({ nodeName: node, startedMs: Date.now(), allowExternalIPs: true });
  const sink = new StateSink(state, { onChange: () => {} });
  const { source } = openSource(config, { nodeName: node, log });
  const backend = createBackend(config.mode, new Incidents(log), config);
  try {
    await backend.probe();
    source.start(sink);
    const stopped = new Promise<void>((resolve) => {
      if (stop.aborted) resolve();
      stop.addEventListener('abort', () => resolve(), { once: true });
    });
    await Promise.race([stopped, sink.completed('Node').then(() => waitForNode(state, { config, log, stop }))]);
    // An init container that was ended has not done its work.
    if (stop.aborted) throw new Error('stopped before this node was prepared');
    const { families, podCidrs, nodePortCidrs } = nodeFacts(state.node, { config, log, unusable: backend.unusable });
    setConntrack({ conntrack: config.conntrack, log });
    backend.prepare?.(
      nodeSettings({
        config,
        families,
        podCidrs,
        nodePortCidrs,
        interfaces: [],
        serviceCidrs: () => [],
        conntrackBeLiberal: tcpBeLiberal(),
      }),
    );
    log.info('this node is prepared', { mode: config.mode });
  } finally {
    await backend.close();
    await source.stop();
  }
}
