// Why a node's rules may be wrong although its syncs succeed: a watch that says nothing any more, rules that others
// remove again and again, or that cannot be repaired. kube-proxy knows none of it. No I/O; clock injected.
import type { WatchStatus } from '../source/source.ts';
import { type Clock, systemClock } from '../sync/clock.ts';

/** One more reason to answer 503. */
export interface HealthProblem {
  readonly message: string;
  /** A new start of the agent may help, so `/livez` tells it too; `/healthz` always does. */
  readonly restartHelps: boolean;
}

/**
 * A watch is silent this long at most: servers send bookmarks each minute, and one that does not is asked anew after 10.5
 * minutes, with a list. Almost twice that means that something hangs.
 */
export const STALE_MS = 20 * 60_000;

/**
 * Watches that should have heard something, and have not. Servers that cannot be reached, or answer with errors of their
 * own, are none of it: then all nodes are equally old, the rules of the last state are the best there is, and taking every
 * node out of service would turn an outage of the control plane into one of the cluster.
 */
export function staleWatches(watches: readonly WatchStatus[]): HealthProblem[] {
  return watches.flatMap(({ kind, optional, outage, silentMs, lastError }) => {
    if (optional || outage || silentMs === null || silentMs < STALE_MS) return [];
    const why = lastError === null ? '' : `: ${lastError}`;
    return [
      { message: `watch of ${kind}: nothing heard for ${Math.floor(silentMs / 1000)} s${why}`, restartHelps: true },
    ];
  });
}

/** For how long each watch has heard nothing, for the body of the answers. */
export function silence(
  watches: readonly WatchStatus[],
): Record<string, { silentSeconds: number | null; outage: boolean }> {
  const seconds = (ms: number | null): number | null => (ms === null ? null : Math.floor(ms / 1000));
  return Object.fromEntries(watches.map((w) => [w.kind, { silentSeconds: seconds(w.silentMs), outage: w.outage }]));
}

const MINUTE_MS = 60_000;
const MINUTES = 10;
const MINUTES_WITH_REPAIRS = 5;

/** Counts in how many of the last minutes rules had to be repaired. A reload of a firewall is one of them, a rival all. */
export class LostRules {
  readonly #clock: Clock;
  /** Minutes with repairs, oldest first. */
  #minutes: number[] = [];

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  /** Rules were lost, and have been repaired. */
  repaired(): void {
    const minute = this.#minute();
    if (this.#minutes.at(-1) !== minute) this.#minutes.push(minute);
  }

  problems(): HealthProblem[] {
    const since = this.#minute() - MINUTES;
    this.#minutes = this.#minutes.filter((minute) => minute > since);
    const count = this.#minutes.length;
    if (count < MINUTES_WITH_REPAIRS) return [];
    const message = `rules are lost again and again: repaired in ${count} of the last ${MINUTES} minutes`;
    return [{ message, restartHelps: false }];
  }

  #minute(): number {
    return Math.floor(this.#clock.monotonicMs() / MINUTE_MS);
  }
}

/** Rules that were changed by somebody else and cannot be put right. They count after as long as a sync that stalls. */
export class WrongRules {
  readonly #limitMs: number;
  readonly #clock: Clock;
  #since: number | null = null;

  constructor(limitMs: number, clock: Clock = systemClock) {
    this.#limitMs = limitMs;
    this.#clock = clock;
  }

  set(wrong: boolean): void {
    this.#since = wrong ? (this.#since ?? this.#clock.monotonicMs()) : null;
  }

  problems(): HealthProblem[] {
    if (this.#since === null || this.#clock.monotonicMs() - this.#since < this.#limitMs) return [];
    return [{ message: 'rules were changed by somebody else and cannot be repaired', restartHelps: true }];
  }
}
