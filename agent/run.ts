// A normal run of the agent (P-1): sources → state → loop → backend, with its health servers, until it is told to stop.
import { hostname } from 'node:os';
import type { NodeSettings } from '../backends/service-plan.ts';
import type { Family } from '../native/ip.ts';
import { createBackend } from './backend.ts';
import { parseBindAddress } from './config/bind-address.ts';
import { nodeName } from './config/node-name.ts';
import { schedulerOf } from './config/scheduler.ts';
import type { Config } from './config/types.ts';
import { ConfigFileWatch } from './config/watch-file.ts';
import { tcpBeLiberal } from './host.ts';
import { Incidents } from './incidents.ts';
import { Interfaces } from './interfaces.ts';
import { setConntrack, setOomScore } from './kernel-settings.ts';
import type { AdjustableLog } from './log.ts';
import { NodeChanges, nodeFacts } from './node-facts.ts';
import { openSource } from './open-source.ts';
import { createEvents, createMetrics, startMetricsServer } from './operations.ts';
import type { NodeAddresses } from './plan/node-addresses.ts';
import { nodeSettings } from './plan/node-settings.ts';
import { nodePortAddresses } from './plan/nodeport-addresses.ts';
import { removePredecessors } from './predecessors.ts';
import { controlRoutes } from './serve/control-routes.ts';
import { ControlSocket } from './serve/control-socket.ts';
import { silence, staleWatches } from './serve/health-problems.ts';
import { HealthServer } from './serve/health-server.ts';
import { ProxyHealth, servesWell } from './serve/proxy-health.ts';
import { ServiceHealthServers } from './serve/service-health.ts';
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
/** For the event that tells why the agent ends. */
const LAST_EVENT_MS = 3000;
const IPVS_DEPRECATION = 'Kubernetes deprecates the ipvs proxy mode; nftables mode is its successor.';

export interface RunOptions {
  readonly config: Config;
  readonly log: AdjustableLog;
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
  const incidents = new Incidents(log, { wrongMs: 2 * config.syncPeriodMs });
  const health = new ProxyHealth({
    syncPeriodMs: config.syncPeriodMs,
    problems: () => [...staleWatches(source.status()), ...incidents.problems()],
  });
  const backend = createBackend(config.mode, incidents, config);
  await backend.probe();

  let programmed: Programmed | null = null;
  let nodeChanges: NodeChanges | null = null;
  const mustRestart = Promise.withResolvers<never>();
  mustRestart.promise.catch(() => {});
  const restart = (why: string): void => mustRestart.reject(new RestartNeeded(why));
  const sink = new StateSink(state, {
    onChange: () => {
      if (state.node) {
        health.nodeUpdated(state.node);
        const why = nodeChanges?.updated(state.node) ?? null;
        if (why !== null) restart(why);
      }
      programmed?.loop.request();
    },
    onNodeRemoved: () => nodeChanges?.removed(),
  });
  const metrics = createMetrics({
    config,
    state,
    incidents,
    backend,
    source: () => source,
    programmed: () => programmed,
  });
  const { source, client } = openSource(config, { nodeName: node, log, observer: metrics.client });
  const events = createEvents(node, { client, log });
  const configWatch =
    config.configFile === null
      ? null
      : new ConfigFileWatch({
          path: config.configFile,
          onChange: restart,
          onError: (err) => log.warn('the configuration file cannot be watched', { err }),
        });
  configWatch?.start();
  const onListenFailure =
    (reason: 'FailedToStartProxierHealthcheck' | 'FailedToStartMetricServer', server: string) =>
    (err: Error): void => {
      if (!config.bindAddressHardFail) return;
      const why = `the ${server} cannot listen: ${err.message}`;
      events.node('Warning', reason, why);
      void events.settled(LAST_EVENT_MS).then(() => restart(why));
    };
  const healthServer = startHealthServer(
    {
      config,
      log,
      health,
      onListenFailure: onListenFailure('FailedToStartProxierHealthcheck', 'health server'),
      onAnswer: metrics.kubeProxy.onHealthAnswer,
    },
    () => ({
      refusedServices: programmed?.loop.report.refused.length ?? 0,
      conditions: [...incidents.conditions.keys()],
      watches: silence(source.status()),
    }),
  );
  const metricsServer = startMetricsServer({
    config,
    log,
    metrics,
    onListenFailure: onListenFailure('FailedToStartMetricServer', 'metrics server'),
  });
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
    () => configWatch?.stop(),
    () => interfaces.stop(),
    () => healthServer?.stop(),
    () => metricsServer.stop(),
    () => control.stop(),
    () => source.stop(),
    () => events.stop(),
  ];
  try {
    source.start(sink);
    await control.start();
    await interfaces.start();
    const stopped = new Promise<'stopped'>((resolve) => {
      if (stop.aborted) resolve('stopped');
      stop.addEventListener('abort', () => resolve('stopped'), { once: true });
    });
    const ready = sink.allComplete.then(() => waitForNode(state, { config, log, stop }));
    if ((await Promise.race([ready, stopped, mustRestart.promise])) === 'stopped' || stop.aborted) return;

    const { addresses, families, podCidrs, nodePortCidrs } = nodeFacts(state.node, {
      config,
      log,
      unusable: backend.unusable,
    });
    nodeChanges = new NodeChanges(state.node, { config, log });
    setConntrack({ conntrack: config.conntrack, log });
    setOomScore(config.oomScoreAdj, { log });
    const conntrackBeLiberal = tcpBeLiberal();
    const listening = (family: 'IPv4' | 'IPv6'): 'all' | readonly string[] => {
      const { mode } = config;
      const own = nodePortAddresses({ mode, family, setting: nodePortCidrs, interfaces: interfaces.current });
      return own.addresses ?? 'all';
    };
    const serviceHealth = new ServiceHealthServers({
      addresses: { IPv4: listening('IPv4'), IPv6: listening('IPv6') },
      proxyHealthy: () => healthServer === null || servesWell(health.status()),
      onFailure: ({ service, port, error }) => {
        log.error('cannot open a health check node port', { service, port, err: error });
        events.healthCheckFailed({ service, port, error });
      },
    });
    cleanups.push(() => serviceHealth.stop());
    const settings = (): NodeSettings =>
      nodeSettings({
        conntrackBeLiberal,
        config,
        families,
        podCidrs,
        nodePortCidrs,
        interfaces: interfaces.current,
        serviceCidrs: (family) => state.serviceCidrs(family),
      });
    const loop = new SyncLoop({
      state,
      backend,
      health,
      serviceHealth,
      conntrack: new ConntrackCleaner({ state, log, onRound: metrics.kubeProxy.onConntrackRound }),
      planner: new Planner({ state, families, addresses }),
      families,
      settings,
      minSyncMs: () => Math.max(mergeMs(config), backend.restMs ?? 0),
      syncPeriodMs: config.syncPeriodMs,
      log,
      observer: metrics,
      onFirstSync: () => {
        client?.useServiceAddress();
        void removePredecessors(config, addresses, log);
      },
    });
    programmed = { loop, families, addresses, settings, serviceHealth };
    cleanups.push(() => loop.stop());
    events.node('Normal', 'Starting', '');
    if (config.mode === 'ipvs') events.node('Warning', 'IPVSDeprecation', IPVS_DEPRECATION);
    loop.start();
    await Promise.race([stopped, mustRestart.promise]);
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
  options: {
    readonly config: Config;
    readonly log: AdjustableLog;
    readonly health: ProxyHealth;
    readonly onListenFailure: (error: Error) => void;
    readonly onAnswer: (path: '/healthz' | '/livez', status: 200 | 503) => void;
  },
  extra: () => Record<string, unknown>,
): HealthServer | null {
  const { config, ...rest } = options;
  const address = parseBindAddress(config.healthzBindAddress);
  if (address === null) return null;
  const server = new HealthServer({ ip: address.ip, port: address.port, ...rest, extra });
  void server.start();
  return server;
}
