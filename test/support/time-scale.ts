// One factor for every time-out and every load of the tests: an emulated machine is several times slower than the one they were written on.

/** From VM_TIME_SCALE; 1 unless it is set. */
export const TIME_SCALE = Number(process.env.VM_TIME_SCALE || 1);

if (!(TIME_SCALE >= 1)) throw new Error(`VM_TIME_SCALE must be a number from 1 on, not ${process.env.VM_TIME_SCALE}`);

/** A time that is waited for something, on this machine. */
export const scaled = (ms: number): number => ms * TIME_SCALE;

/** A rate that leaves this machine time for what is tested: short connections cost an emulated one more than its factor. */
export const scaledRate = (perSecond: number): number => perSecond / TIME_SCALE ** 1.5;
