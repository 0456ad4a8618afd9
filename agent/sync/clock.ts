// Time as an argument: what waits or measures takes a Clock, so that tests need not wait.

export interface Clock {
  /** Milliseconds since the epoch, for display. */
  wallMs(): number;
  /** Milliseconds that never jump, for measuring; the same clock in all processes of the machine. */
  monotonicMs(): number;
  /** Calls `fn` once, `ms` from now; returns a function that prevents it. */
  after(ms: number, fn: () => void): () => void;
}

const LONGEST_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => Number(process.hrtime.bigint()) / 1e6,
  after(ms, fn) {
    let timer: NodeJS.Timeout;
    const arm = (left: number) => {
      const now = Math.min(left, LONGEST_TIMER_MS);
      timer = setTimeout(() => (left > now ? arm(left - now) : fn()), now);
    };
    arm(Math.max(0, ms));
    return () => clearTimeout(timer);
  },
};
