// What the backend reports between syncs: it goes to the log, and is kept for the status.
import { type BackendEvents, NOT_REPAIRED } from '../backends/backend.ts';
import type { Log } from './log.ts';
import { type HealthProblem, LostRules, WrongRules } from './serve/health-problems.ts';
import type { Repairs } from './status.ts';

export class Incidents implements BackendEvents {
  readonly #log: Log;
  /** States an operator must know of, by name. */
  readonly conditions = new Map<string, string>();
  readonly repairs: Repairs = { count: 0, last: null };
  readonly #lostRules = new LostRules();
  readonly #wrongRules: WrongRules;
  /** Told when what is no longer used could not be deleted. */
  onCleanupFailure: () => void = () => {};

  /** `wrongMs`: how long rules may be wrong, while they cannot be repaired, before that is unhealthy. */
  constructor(log: Log, { wrongMs = Number.POSITIVE_INFINITY }: { wrongMs?: number } = {}) {
    this.#log = log;
    this.#wrongRules = new WrongRules(wrongMs);
  }

  /** Why the node is not healthy, by what was reported. */
  problems(): HealthProblem[] {
    return [...this.#lostRules.problems(), ...this.#wrongRules.problems()];
  }

  note(message: string): void {
    this.#log.info(message);
  }

  drift({ description, culprit, counts }: Parameters<BackendEvents['drift']>[0]): void {
    this.repairs.count++;
    this.#lostRules.repaired();
    this.repairs.last = { atMs: Date.now(), description, culprit };
    this.#log.warn('rules were changed by somebody else and have been repaired', {
      found: description,
      by: culprit ?? undefined,
      ...counts,
    });
  }

  condition(name: string, message: string | null): void {
    if (name === NOT_REPAIRED) this.#wrongRules.set(message !== null);
    if (message === null) this.conditions.delete(name);
    else this.conditions.set(name, message);
    if (message !== null) this.#log.warn(message, { condition: name });
  }

  error(message: string, err: unknown, kind?: 'cleanup'): void {
    if (kind === 'cleanup') this.onCleanupFailure();
    this.#log.error(message, { err });
  }
}
