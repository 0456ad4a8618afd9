// A normal run of the agent (P-1): sources → state → loop → backend, with its health servers, until it is told to stop.
import { hostname } from 'node:os';
import type { BackendEvents, Drift } from '../backends/backend.ts';
import { createBackend } from './backend.ts';
import { parseBindAddress } from './config/bind-address.ts';
import { nodeName } from './config/node-name.ts';
import type { Config } from './config/types.ts';
import { supportedFamilies } from './host.ts';
import { Interfaces } from './interfaces.ts';
import type { Log } from './log.ts';
import { nodeAddresses } from './plan/node-addresses.ts';
import { nodeSettings } from './plan/node-settings.ts';
import { nodePortAddresses, resolvePrimary } from './plan/nodeport-addresses.ts';
import { HealthServer } from './serve/health-server.ts';
import { ProxyHealth } from './serve/proxy-health.ts';
import { ServiceHealthServers } from './serve/service-health.ts';
import { ApiServerSource } from './source/api-server.ts';
import { KubeClient } from './source/kube-client.ts';
import { ManifestsSource } from './source/manifests.ts';
import type { Source } from './source/source.ts';
import { State } from './state/state.ts';
import { ConntrackCleaner } from './sync/conntrack-cleaner.ts';
import { Planner } from './sync/planner.ts';
import { StateSink } from './sync/state-sink.ts';
import { SyncLoop } from './sync/sync-loop.ts';

/** The agent must end and be started anew. */
export class RestartNeeded extends Error {}

/** Wait for the Node to have an address (P-10), and in mode NodeCIDR for its pod CIDRs (P-11). */
const NODE_WAIT_MS = 30_000;
const POD_CIDR_WAIT_MS = 300_000;
const NODE_POLL_MS = 100;
/** Without an explicit minimum, events are merged this long: a sync costs what changed, not what there is. */
const DEFAULT_MERGE_MS = 10;

export interface RunOptions {
  readonly config: Config;
  readonly log: Log;
  /** Ends the run; the rules stay. */
  readonly stop: AbortSignal;
}

/** What other processes and metrics may ask of a running agent. */
export interface Repairs {
  count: number;
  last: (Drift & { atMs: number }) | null;
}

export async function run({ config, log, stop }: RunOptions): Promise<void> {
  const startedMs = Date.now();
  const node = nodeName(config.hostnameOverride, hostname());
  const problemCount = { total: 0 };
  const state = new State({
    nodeName: node,
    startedMs,
    allowExternalIPs: config.featureGates.AllowServiceExternalIPs ?? true,
    onProblem: ({ object, field, message }) => {
      problemCount.total++;
      log.warn('an object cannot be used as it is', { object, field, problem: message });
    },
  });
  const health = new ProxyHealth({ syncPeriodMs: config.syncPeriodMs });
  const conditions = new Map<string, string>();
  const repairs: Repairs = { count: 0, last: null };
  const backend = createBackend(config.mode, backendEvents(log, conditions, repairs));
  await backend.probe();

  let loop: SyncLoop | null = null;
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
    loop?.request();
  });
  const source: Source =
    config.manifests.length > 0
      ? new ManifestsSource({ paths: config.manifests, nodeName: node, log })
      : new ApiServerSource({
          client: new KubeClient({ kubeconfig: config.kubeconfig ?? undefined, server: config.master ?? undefined }),
          nodeName: node,
          log,
        });
  const healthServer = startHealthServer(config, health, log);
  const interfaces = new Interfaces({ log, onChange: () => loop?.settingsChanged() });
  const cleanups: (() => unknown)[] = [
    () => backend.close(),
    () => interfaces.stop(),
    () => healthServer?.stop(),
    () => source.stop(),
  ];
  try {
    source.start(sink);
    await interfaces.start();
    const stopped = new Promise<'stopped'>((resolve) => {
      if (stop.aborted) resolve('stopped');
      stop.addEventListener('abort', () => resolve('stopped'), { once: true });
    });
    const mustRestart = new Promise<never>((_, reject) => {
      restart = reject;
    });
    mustRestart.catch(() => {});
    const ready = sink.allComplete.then(() => waitForNode(state, config, log, stop));
    if ((await Promise.race([ready, stopped])) === 'stopped' || stop.aborted) return;

    podCidrs = state.node?.podCidrs ?? [];
    const addresses = nodeAddresses({ node: state.node, bindAddress: config.bindAddress });
    const families = supportedFamilies(addresses.primaryFamily);
    const nodePortCidrs = resolvePrimary(config.nodePortAddresses, addresses);
    const cidrs = podCidrs;
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
    loop = new SyncLoop({
      state,
      backend,
      health,
      serviceHealth,
      conntrack: new ConntrackCleaner({ state, log }),
      planner: new Planner({ state, families, addresses }),
      families,
      settings: () =>
        nodeSettings({
          config,
          families,
          podCidrs: cidrs,
          nodePortCidrs,
          interfaces: interfaces.current,
          serviceCidrs: (family) => state.serviceCidrs(family),
        }),
      minSyncMs: config.minSyncPeriodExplicit ? config.minSyncPeriodMs : DEFAULT_MERGE_MS,
      syncPeriodMs: config.syncPeriodMs,
      log,
    });
    const running = loop;
    cleanups.push(() => running.stop());
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

/** What a backend reports between syncs goes to the log and into the status. */
function backendEvents(log: Log, conditions: Map<string, string>, repairs: Repairs): BackendEvents {
  return {
    drift(drift) {
      repairs.count++;
      repairs.last = { ...drift, atMs: Date.now() };
      log.warn('rules were changed by somebody else and have been repaired', {
        found: drift.description,
        by: drift.culprit ?? undefined,
        ...drift.counts,
      });
    },
    condition(name, message) {
      if (message === null) conditions.delete(name);
      else conditions.set(name, message);
      if (message !== null) log.warn(message, { condition: name });
    },
    error(message, err) {
      log.error(message, { err });
    },
  };
}

function startHealthServer(config: Config, health: ProxyHealth, log: Log): HealthServer | null {
  const address = parseBindAddress(config.healthzBindAddress);
  if (address === null) return null;
  const server = new HealthServer({ ip: address.ip, port: address.port, health, log });
  void server.start();
  return server;
}

async function waitForNode(state: State, config: Config, log: Log, stop: AbortSignal): Promise<void> {
  const began = performance.now();
  const waited = (): number => performance.now() - began;
  const hasAddress = (): boolean => (state.node?.addresses.length ?? 0) > 0;
  while (!hasAddress() && waited() < NODE_WAIT_MS && !stop.aborted) await pause();
  if (!hasAddress() && !stop.aborted)
    log.warn('this Node has no IP address; going on with 127.0.0.1', { node: state.nodeName });
  if (config.detectLocalMode !== 'NodeCIDR') return;
  while ((state.node?.podCidrs.length ?? 0) === 0 && !stop.aborted) {
    if (waited() > POD_CIDR_WAIT_MS)
      throw new Error(`Node ${state.nodeName} has no spec.podCIDRs, which detectLocalMode NodeCIDR needs`);
    await pause();
  }
}

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, NODE_POLL_MS));
