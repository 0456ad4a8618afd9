// Notices foreign changes to our tables and has them repaired: at once the first time, with growing pauses against
// somebody who keeps undoing it.
import type { BackendEvents, Drift } from '../backend.ts';
import type { Committer } from './committer.ts';
import { RulesetMonitor } from './monitor.ts';

const CALM_MS = 10_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 300_000;

export interface DriftWatchOptions {
  readonly portId: number;
  readonly pollMs: number;
  readonly exclusively: <T>(work: () => Promise<T>) => Promise<T>;
  readonly generation: () => number;
  readonly committer: Committer;
  /** Compares and repairs; runs exclusively. */
  readonly repair: () => Promise<Drift | null>;
  readonly events: BackendEvents;
  readonly now?: () => number;
}

export class DriftWatch {
  readonly #options: DriftWatchOptions;
  readonly #now: () => number;
  #monitor: RulesetMonitor | null = null;
  #timer: NodeJS.Timeout | null = null;
  #busy = false;
  #suspicion: { culprit: string | null } | null = null;
  #lastRepairMs = Number.NEGATIVE_INFINITY;
  #pauseMs = 0;
  #kubeProxyMs = Number.NEGATIVE_INFINITY;

  constructor(options: DriftWatchOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  start(): void {
    if (this.#monitor) return;
    this.#monitor = new RulesetMonitor(this.#options.portId);
    this.#timer = setInterval(() => this.#poll(), this.#options.pollMs);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
    this.#monitor?.close();
    this.#monitor = null;
  }

  #poll(): void {
    if (this.#busy || !this.#monitor) return;
    const { events } = this.#options;
    try {
      const activity = this.#monitor.drain();
      if (activity.touched) this.#suspicion = { culprit: activity.culprit };
      this.#reportKubeProxy(activity.kubeProxy);
      if (activity.overflow && !this.#suspicion) this.#compareGenerations();
    } catch (error) {
      events.error('cannot listen for changes of the ruleset', error);
      this.#suspicion ??= { culprit: null };
    }
    if (this.#suspicion && this.#now() >= this.#lastRepairMs + this.#pauseMs) this.#repair(this.#suspicion.culprit);
  }

  /** Own big commits make notifications overflow as well. Asks in turn: during a commit the socket is the commit's. */
  #compareGenerations(): void {
    const { exclusively, events, committer, generation } = this.#options;
    this.#busy = true;
    exclusively(async () => {
      if (generation() !== committer.expectedGeneration) this.#suspicion = { culprit: null };
    })
      .catch((error: unknown) => {
        this.#suspicion = { culprit: null };
        events.error('cannot ask for the generation of the ruleset', error);
      })
      .finally(() => {
        this.#busy = false;
      });
  }

  #repair(culprit: string | null): void {
    const { exclusively, repair, events, committer, generation } = this.#options;
    this.#busy = true;
    this.#suspicion = null;
    const calm = this.#now() - this.#lastRepairMs > CALM_MS + this.#pauseMs;
    exclusively(async () => {
      const drift = await repair();
      committer.expectedGeneration = generation();
      if (!drift) return;
      this.#pauseMs = calm ? FIRST_PAUSE_MS : Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
      this.#lastRepairMs = this.#now();
      events.drift({ ...drift, culprit });
    })
      .catch((error: unknown) => {
        this.#suspicion = { culprit };
        this.#lastRepairMs = this.#now();
        this.#pauseMs = Math.min(Math.max(this.#pauseMs * 2, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
        events.error('cannot repair the ruleset', error);
      })
      .finally(() => {
        this.#busy = false;
      });
  }

  #reportKubeProxy(active: boolean): void {
    const QUIET_MS = 60_000;
    const now = this.#now();
    const was = now - this.#kubeProxyMs < QUIET_MS;
    if (active) this.#kubeProxyMs = now;
    const is = now - this.#kubeProxyMs < QUIET_MS;
    if (is === was) return;
    const message =
      'kube-proxy is writing its own nftables table on this node: two service proxies must not run side by side';
    this.#options.events.condition('KubeProxyRunning', is ? message : null);
  }
}
