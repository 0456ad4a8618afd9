// when syncs start.
import assert from 'node:assert/strict';
import { BoundedRunner } from '../../../agent/sync/bounded-runner.ts';
import { FakeClock } from '../../support/fake-clock.ts';

interface Vector {
  input: {
    min: number;
    retry: number;
    max: number;
    syncDuration: number;
    requests: number[];
    failures: number[];
    until: number;
  };
  expect: { syncStarts: number[] };
}

export async function run(vector: Vector): Promise<void> {
  const { input } = vector;
  const clock = new FakeClock();
  const starts: number[] = [];
  const runner = new BoundedRunner({
    clock,
    minMs: input.min * 1000,
    retryMs: input.retry * 1000,
    maxMs: input.max * 1000,
    run: async () => {
      const index = starts.push(clock.monotonicMs() / 1000) - 1;
      await clock.sleep(input.syncDuration * 1000);
      if (input.failures.includes(index)) throw new Error('failed as planned');
    },
  });
  runner.start();
  for (const at of input.requests) clock.after(at * 1000, () => runner.request());
  await clock.advanceTo(input.until * 1000);
  assert.equal(starts.length, vector.expect.syncStarts.length, `starts: ${starts.join(', ')}`);
  for (const [i, expected] of vector.expect.syncStarts.entries()) {
    assert.ok(Math.abs(starts[i]! - expected) <= 0.001, `start ${i}: ${starts[i]} instead of ${expected}`);
  }
}
