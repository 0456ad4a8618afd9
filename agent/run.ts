// A normal run of the agent (P-1): sources → state → loop → backend, with its health servers, until it is told to stop.
import { hostname } from 'node:os';
import type { NodeSettings } from '../backends/service-plan.ts';
import type { Family } from '../native/ip.ts';
import { createBackend } from './backend.ts';
import { parseBindAddress } from './config/bind-address.ts';
import { nodeName } from './config/node-name.ts';
import { schedulerOf } from './config/scheduler.ts';
import type { Config } from './config/types.ts';
import { supportedFamilies, tcpBeLiberal } from './host.ts';
import { Incidents } from './incidents.ts';
import { Interfaces } from './interfaces.ts';
import type { Log } from './log.ts';
import { type NodeAddresses, nodeAddresses } from './plan/node-addresses.ts';
import { nodeSettings } from './plan/node-settings.ts';
import { nodePortAddresses, resolvePrimary } from './plan/nodeport-addresses.ts';
import { removePredecessors } from './predecessors.ts';
import { controlRoutes } from './serve/control-routes.ts';
import { ControlSocket } from './serve/control-socket.ts';
import { HealthServer } from './serve/health-server.ts';
import { ProxyHealth } from './serve/proxy-health.ts';
import { ServiceHealthServers } from './serve/service-health.ts';
import { ApiServerSource } from './source/api-server.ts';
import { KubeClient } from './source/kube-client.ts';
import { ManifestsSource } from './source/manifests.ts';
import type { Source } from './source/source.ts';
import { State } from './state/state.ts';
import { collectStatus } from './status.ts';
import { ConntrackCleaner } from './sync/conntrack-cleaner.ts';
import { Planner } from './sync/planner.ts';
import { StateSink } from './sync/state-sink.ts';
import { SyncLoop } from './sync/sync-loop.ts';
import { VERSION } from './version.ts';
import { waitForNode } from './wait-for-node.ts';

/** The agent must end and be started anew. */
export class RestartNeeded extends Error {}

const DEFAULT_MERGE_MS = 10;

export interface RunOptions {
  readonly config: Config;
  readonly log: Log;
  /** Ends the run; the rules stay. */
  readonly stop: AbortSignal;
}

/** What exists from the first sync on. */
interface Programmed {
  readonly loop: SyncLoop;
  readonly families: readonly Family[];
  readonly addresses: NodeAddresses;
  readonly settings: () => NodeSettings;
  readonly serviceHealth: ServiceHealthServers;
}

export async function run({ config, log, stop }: RunOptions): Promise<void> {
  const startedMs = Date.now();
  const node = nodeName(config.hostnameOverride, hostname());
  const state = new State({
    nodeName: node,
    startedMs,
    allowExternalIPs: config.featureGates.AllowServiceExternalIPs ?? true,
    onProblems: (problems) => {
      log.warn('an object cannot be used as it is', {
        object: problems[0]?.object,
        problems: problems.map(({ field, message }) => (field === '' ? message : `${field}: ${message}`)),
      });
    },
  });
  const health = new ProxyHealth({ syncPeriodMs: config.syncPeriodMs });
  const incidents = new Incidents(log);
  const backend = createBackend(config.mode, incidents, config);
  await backend.probe();

  let programmed: Programmed | null = null;
  let podCidrs: readonly string[] | null = null;
  let restart: ((error: Error) => void) | null = null;
  const sink = new StateSink(state, () => {
    if (state.node) {
      health.nodeUpdated(state.node);
      // P-12: the detector was built from the old ones.
      if (config.detectLocalMode === 'NodeCIDR' && podCidrs && podCidrs.join() !== state.node.podCidrs.join()) {
        restart?.(new RestartNeeded('the pod CIDRs of this Node changed'));
      }
    }
    programmed?.loop.request();
  });
  const source: Source =
    config.manifests.length > 0
      ? new ManifestsSource({ paths: config.manifests, nodeName: node, log })
      : new ApiServerSource({
          client: new KubeClient({ kubeconfig: config.kubeconfig ?? undefined, server: config.master ?? undefined }),
          nodeName: node,
          log,
        });
  const healthServer = startHealthServer(config, log, health, () => ({
    refusedServices: programmed?.loop.report.refused.length ?? 0,
    conditions: [...incidents.conditions.keys()],
  }));
  const control = new ControlSocket({
    path: config.socket,
    log,
    routes: controlRoutes({
      backend,
      status: () =>
        collectStatus({
          version: VERSION,
          mode: config.mode,
          startedMs,
          state,
          families: programmed?.families ?? [],
          sync: programmed?.loop.report ?? null,
          health: health.status(),
          watches: source.status(),
          conditions: incidents.conditions,
          closedHealthPorts: programmed?.serviceHealth.failed() ?? [],
          repairs: incidents.repairs,
          settings: programmed?.settings() ?? null,
          nowMs: Date.now(),
        }),
      explained: () =>
        programmed?.loop.report.started
          ? {
              ...programmed,
              state,
              settings: programmed.settings(),
              scheduler: schedulerOf(config),
              refused: programmed.loop.report.refused,
            }
          : null,
    }),
  });
  const interfaces = new Interfaces({ log, onChange: () => programmed?.loop.settingsChanged() });
  const cleanups: (() => unknown)[] = [
    () => backend.close(),
    () => interfaces.stop(),
    () => healthServer?.stop(),
    () => control.stop(),
    () => source.stop(),
  ];
  try {
    source.start(sink);
    await control.start();
    await interfaces.start();
    const stopped = new Promise<'stopped'>((resolve) => {
      if (stop.aborted) resolve('stopped');
      stop.addEventListener('abort', () => resolve('stopped'), { once: true });
    });
    const mustRestart = new Promise<never>((_, reject) => {
      restart = reject;
    });
    mustRestart.catch(() => {});
    const ready = sink.allComplete.then(() => waitForNode(state, { config, log, stop }));
    if ((await Promise.race([ready, stopped])) === 'stopped' || stop.aborted) return;

    podCidrs = state.node?.podCidrs ?? [];
    const addresses = nodeAddresses({ node: state.node, bindAddress: config.bindAddress });
    const families = supportedFamilies(addresses.primaryFamily);
    const nodePortCidrs = resolvePrimary(config.nodePortAddresses, addresses);
    const cidrs = podCidrs;
    const conntrackBeLiberal = tcpBeLiberal();
    const listening = (family: 'IPv4' | 'IPv6'): 'all' | readonly string[] => {
      const { mode } = config;
      const own = nodePortAddresses({ mode, family, setting: nodePortCidrs, interfaces: interfaces.current });
      return own.addresses ?? 'all';
    };
    const serviceHealth = new ServiceHealthServers({
      addresses: { IPv4: listening('IPv4'), IPv6: listening('IPv6') },
      proxyHealthy: () => healthServer === null || health.status().healthy,
      onFailure: ({ service, port, error }) => {
        log.error('cannot open a health check node port', { service, port, err: error });
      },
    });
    cleanups.push(() => serviceHealth.stop());
    const settings = (): NodeSettings =>
      nodeSettings({
        conntrackBeLiberal,
        config,
        families,
        podCidrs: cidrs,
        nodePortCidrs,
        interfaces: interfaces.current,
        serviceCidrs: (family) => state.serviceCidrs(family),
      });
    const loop = new SyncLoop({
      state,
      backend,
      health,
      serviceHealth,
      conntrack: new ConntrackCleaner({ state, log }),
      planner: new Planner({ state, families, addresses }),
      families,
      settings,
      minSyncMs: () => Math.max(mergeMs(config), backend.restMs ?? 0),
      syncPeriodMs: config.syncPeriodMs,
      log,
      onFirstSync: () => void removePredecessors(config.mode, log),
    });
    programmed = { loop, families, addresses, settings, serviceHealth };
    cleanups.push(() => loop.stop());
    loop.start();
    await Promise.race([stopped, mustRestart]);
    log.info('stopping; the rules stay in place');
  } finally {
    for (const cleanup of cleanups.reverse()) {
      try {
        await cleanup();
      } catch (err) {
        log.warn('while stopping', { err });
      }
    }
  }
}

/** How long events are merged after a sync. Where a sync costs what changed, not what there is, little unless it was chosen. */
function mergeMs({ mode, minSyncPeriodMs, minSyncPeriodExplicit }: Config): number {
  return mode !== 'iptables' && !minSyncPeriodExplicit ? DEFAULT_MERGE_MS : minSyncPeriodMs;
}

function startHealthServer(
  config: Config,
  log: Log,
  health: ProxyHealth,
  extra: () => Record<string, unknown>,
): HealthServer | null {
  const address = parseBindAddress(config.healthzBindAddress);
  if (address === null) return null;
  const server = new HealthServer({ ip: address.ip, port: address.port, health, log, extra });
  void server.start();
  return server;
}
