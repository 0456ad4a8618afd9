// What operators look at: puts metrics, their server and events together with the parts of a running agent.
import { hostname } from 'node:os';
import type { Backend } from '../backends/backend.ts';
import { readCounters } from '../backends/iptables/nfacct.ts';
import { parseBindAddress } from './config/bind-address.ts';
import { toV1alpha1 } from './config/document-text.ts';
import { parseFlags } from './config/flags.ts';
import type { Config } from './config/types.ts';
import { Events } from './events.ts';
import type { Incidents } from './incidents.ts';
import type { AdjustableLog, Log } from './log.ts';
import { AgentMetrics } from './metrics/agent-metrics.ts';
import { gateEnabled } from './metrics/build-info.ts';
import { flagzText, statuszText } from './serve/debug-pages.ts';
import { MetricsServer } from './serve/metrics-server.ts';
import type { ServiceHealthServers } from './serve/service-health.ts';
import type { KubeClient } from './source/kube-client.ts';
import type { Source } from './source/source.ts';
import type { State } from './state/state.ts';
import type { SyncLoop } from './sync/sync-loop.ts';
import { VERSION } from './version.ts';

export interface MetricsParts {
  readonly config: Config;
  readonly state: State;
  readonly incidents: Incidents;
  readonly backend: Backend;
  readonly source: () => Source;
  /** null before the loop begins. */
  readonly programmed: () => { readonly loop: SyncLoop; readonly serviceHealth: ServiceHealthServers } | null;
}

/** Call it once the backend is known to work: then the kernel's counters exist, if ever. */
export function createMetrics({ config, state, incidents, backend, source, programmed }: MetricsParts): AgentMetrics {
  const metrics = new AgentMetrics({
    mode: config.mode,
    version: VERSION,
    gates: config.featureGates,
    eventCounts: () => state.eventCounts(),
    unapplied: () => programmed()?.loop.unapplied ?? 0,
    ruleFigures: () => backend.ruleFigures?.() ?? [],
    readCounters: config.mode === 'iptables' && hasCounters() ? readCounters : null,
    nowMs: Date.now,
    figures: () => ({
      report: programmed()?.loop.report ?? null,
      repairs: incidents.repairs.count,
      conditions: incidents.conditions,
      watches: source().status(),
      problems: state.problems(),
      closedHealthPorts: new Set(
        programmed()
          ?.serviceHealth.failed()
          .map(({ service }) => service),
      ).size,
    }),
  });
  incidents.onCleanupFailure = () => metrics.kubeProxy.cleanupFailed();
  return metrics;
}

function hasCounters(): boolean {
  try {
    return readCounters().size > 0;
  } catch {
    return false; // a kernel without accounting (I-56)
  }
}

export function createEvents(nodeName: string, parts: { client: KubeClient | null; log: Log }): Events {
  return new Events({ nodeName, hostName: hostname(), ...parts });
}

export interface MetricsServerParts {
  readonly config: Config;
  readonly log: AdjustableLog;
  readonly metrics: AgentMetrics;
  readonly onListenFailure: (error: Error) => void;
  /** Arguments after the program's name. */
  readonly argv?: readonly string[];
}

export function startMetricsServer(parts: MetricsServerParts): MetricsServer {
  const { config, log, metrics, onListenFailure, argv = process.argv.slice(2) } = parts;
  const { ip, port } = parseBindAddress(config.metricsBindAddress)!; // validated (P-38)
  const flags = () => {
    const parsed = parseFlags(argv);
    return parsed.action === 'run' ? parsed.given.map(({ flag: { name }, value }) => ({ name, value })) : [];
  };
  const startedMs = performance.timeOrigin;
  const server = new MetricsServer({
    ip,
    port,
    log,
    onListenFailure,
    metrics,
    mode: config.mode,
    configz: toV1alpha1(config.document),
    flagz: gateEnabled(config.featureGates, 'ComponentFlagz') ? () => flagzText(flags()) : null,
    statusz: gateEnabled(config.featureGates, 'ComponentStatusz')
      ? (nowMs, paths) => statuszText({ version: VERSION, startedMs, nowMs, paths })
      : null,
    profiling: config.profiling ? { setVerbosity: (verbosity) => log.setVerbosity(verbosity) } : null,
  });
  void server.start();
  return server;
}
