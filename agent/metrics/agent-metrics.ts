// All metrics of an agent in one registry, and what feeds them.
import { Registry } from 'prom-client';
import type { PlanChange } from '../../backends/service-plan.ts';
import type { Family } from '../../native/ip.ts';
import type { ProxyMode } from '../config/types.ts';
import type { Reached, SyncObserver, SyncRound } from '../sync/observer.ts';
import { registerBuildInfo } from './build-info.ts';
import { ClientMetrics } from './client-metrics.ts';
import { KubeProxyMetrics, type KubeProxyMetricsOptions } from './kube-proxy-metrics.ts';
import { OwnMetrics, type OwnMetricsOptions } from './own-metrics.ts';
import { registerProcessMetrics } from './process-metrics.ts';

export interface AgentMetricsOptions
  extends Omit<KubeProxyMetricsOptions, 'registry'>,
    Pick<OwnMetricsOptions, 'figures'> {
  readonly mode: ProxyMode;
  readonly version: string;
  readonly gates: Readonly<Record<string, boolean>>;
}

/** What a scrape answers. */
export interface Exposition {
  readonly type: string;
  readonly text: string;
}

export class AgentMetrics implements SyncObserver {
  readonly registry = new Registry();
  readonly kubeProxy: KubeProxyMetrics;
  readonly client: ClientMetrics;
  readonly #own: OwnMetrics;

  constructor(options: AgentMetricsOptions) {
    const { registry } = this;
    const { version, gates } = options;
    this.kubeProxy = new KubeProxyMetrics({ ...options, registry });
    this.#own = new OwnMetrics({ ...options, registry });
    this.client = new ClientMetrics(registry);
    registerBuildInfo({ registry, version, gates, arch: process.arch });
    registerProcessMetrics({ registry });
  }

  /** `/metrics`. */
  async exposition(): Promise<Exposition> {
    return { type: this.registry.contentType, text: await this.registry.metrics() };
  }

  /** `/metrics/slis`: as of kube-proxy, where no component counts its health checks. */
  async slis(): Promise<Exposition> {
    const text = await this.registry.getSingleMetricAsString('process_start_time_seconds');
    return { type: this.registry.contentType, text: `${text}\n` };
  }

  requested(families: readonly Family[]): void {
    this.kubeProxy.requested(families);
  }

  planned(changes: readonly PlanChange[], all: boolean): void {
    this.kubeProxy.planned(changes, all);
  }

  applied(operation: 'start' | 'configure' | 'sync', seconds: number): void {
    this.#own.applied(operation, seconds);
  }

  reached(reached: Reached): void {
    this.kubeProxy.reached(reached);
    this.#own.reached(reached);
  }

  ended(round: SyncRound): void {
    this.kubeProxy.ended(round);
  }
}
