// Notices foreign changes to our rules in nf_tables and has them repaired: at once the first time, with growing pauses
// against somebody who keeps undoing it.
import { type BackendEvents, type Drift, NOT_REPAIRED } from './backend.ts';
import { type Concern, type ForeignActivity, type ForeignChange, RulesetMonitor } from './ruleset-monitor.ts';

const CALM_MS = 10_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 300_000;
/** After a repair that failed: nobody is helped by waiting. */
const LONGEST_FAILURE_PAUSE_MS = 30_000;

export interface DriftWatchOptions {
  readonly portId: number;
  readonly pollMs: number;
  readonly exclusively: <T>(work: () => Promise<T>) => Promise<T>;
  readonly concern: (change: ForeignChange) => Concern;
  /** The generation of the ruleset. */
  readonly generation: () => number;
  /** The generation that only our own commits lead to. */
  readonly expected: { expectedGeneration: number };
  /** Whether something of ours is missing, after a change that only may have taken it; runs exclusively. */
  readonly check?: () => Promise<boolean>;
  /** Compares and repairs; runs exclusively. */
  readonly repair: () => Promise<Drift | null>;
  readonly events: BackendEvents;
  /** Words for an operator when another service proxy is at work. */
  readonly rival: string;
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
  /** The last repair failed. */
  #failing = false;
  #rivalMs = Number.NEGATIVE_INFINITY;

  constructor(options: DriftWatchOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  start(): void {
    if (this.#monitor) return;
    this.#monitor = new RulesetMonitor(this.#options.portId, this.#options.concern);
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
      this.#reportRival(activity.rival);
      if (!this.#suspicion && (activity.overflow || activity.check)) this.#lookCloser(activity);
    } catch (error) {
      events.error('cannot listen for changes of the ruleset', error);
      this.#suspicion ??= { culprit: null };
    }
    if (this.#suspicion && this.#now() >= this.#lastRepairMs + this.#pauseMs) this.#repair(this.#suspicion.culprit);
  }

  /** Own big commits make notifications overflow as well. Asks in turn: during a commit the socket is the commit's. */
  #lookCloser({ overflow, culprit }: ForeignActivity): void {
    const { exclusively, events, expected, generation, check } = this.#options;
    this.#busy = true;
    exclusively(async () => {
      const moved = overflow && generation() !== expected.expectedGeneration;
      if (moved || (await check?.()) === true) this.#suspicion = { culprit };
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
    const { exclusively, repair, events, expected, generation } = this.#options;
    this.#busy = true;
    this.#suspicion = null;
    const calm = this.#now() - this.#lastRepairMs > CALM_MS + this.#pauseMs;
    exclusively(async () => {
      const drift = await repair();
      expected.expectedGeneration = generation();
      if (this.#failing) events.condition(NOT_REPAIRED, null);
      this.#failing = false;
      if (!drift) return;
      this.#pauseMs = calm ? FIRST_PAUSE_MS : Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
      this.#lastRepairMs = this.#now();
      events.drift({ ...drift, culprit });
    })
      .catch((error: unknown) => {
        this.#suspicion = { culprit };
        this.#lastRepairMs = this.#now();
        this.#pauseMs = Math.min(Math.max(this.#pauseMs * 2, FIRST_PAUSE_MS), LONGEST_FAILURE_PAUSE_MS);
        events.error('cannot repair the ruleset', error);
        if (!this.#failing)
          events.condition(NOT_REPAIRED, 'rules were changed by somebody else and cannot be repaired');
        this.#failing = true;
      })
      .finally(() => {
        this.#busy = false;
      });
  }

  #reportRival(active: boolean): void {
    const QUIET_MS = 60_000;
    const now = this.#now();
    const was = now - this.#rivalMs < QUIET_MS;
    if (active) this.#rivalMs = now;
    const is = now - this.#rivalMs < QUIET_MS;
    if (is === was) return;
    this.#options.events.condition('KubeProxyRunning', is ? this.#options.rival : null);
  }
}
