// What the loop tells of its work while it does it; metrics are made of it. All calls are cheap and must not throw.
import type { PlanChange } from '../../backends/service-plan.ts';
import type { Family } from '../../native/ip.ts';

/** One run of the loop. */
export interface SyncRound {
  /** Those with something to do; all when there was nothing in particular. */
  readonly families: readonly Family[];
  /** All Services were planned anew. */
  readonly full: boolean;
  /** The kernel holds all that was known when the round began, but for refused Services. */
  readonly reached: boolean;
  /** Families with a failure: all of the round, or those in which Services were refused. */
  readonly failed: readonly Family[];
  readonly seconds: number;
}

/** Changes that have reached the kernel. */
export interface Reached {
  /** When the changes of slices happened, by their annotation, milliseconds since the epoch (E-48). */
  readonly triggerTimesMs: Readonly<Record<Family, readonly number[]>>;
  /** Since the oldest event was received; null when no event asked for the sync, or it is the first. */
  readonly oldestEventSeconds: number | null;
}

export interface SyncObserver {
  /** A sync is wanted, or the loop begins. */
  requested(families: readonly Family[]): void;
  /** What is wanted of Services from now on; `all`: there are no others. */
  planned(changes: readonly PlanChange[], all: boolean): void;
  /** The backend has done what it was asked; how long that took. */
  applied(operation: 'start' | 'configure' | 'sync', seconds: number): void;
  reached(reached: Reached): void;
  ended(round: SyncRound): void;
}

export const NO_OBSERVER: SyncObserver = { requested() {}, planned() {}, applied() {}, reached() {}, ended() {} };
