// Time and chance as the sources need them, so that tests can drive both.
import { type Clock, systemClock } from '../sync/clock.ts';

export interface Timers extends Clock {
  /** In [0, 1). */
  random(): number;
}

export const systemTimers: Timers = { ...systemClock, random: Math.random };

/** Waits `ms`, or less when the signal is aborted; never rejects. */
export function sleep(timers: Timers, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted || ms <= 0) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      cancel();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const cancel = timers.after(ms, done);
    signal.addEventListener('abort', done, { once: true });
  });
}
