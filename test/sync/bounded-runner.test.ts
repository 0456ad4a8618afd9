import t from 'tap';
import { BoundedRunner, type BoundedRunnerOptions, doubling } from '../../agent/sync/bounded-runner.ts';
import { FakeClock } from '../support/fake-clock.ts';

/** A runner whose syncs take `lastsMs` and fail while `failing` says so. */
function setup(options: Partial<BoundedRunnerOptions> & { lastsMs?: number; failing?: (index: number) => boolean }) {
  const { lastsMs = 0, failing = () => false, ...rest } = options;
  const clock = new FakeClock();
  const starts: number[] = [];
  const runner = new BoundedRunner({
    clock,
    minMs: 1000,
    retryMs: 30_000,
    maxMs: 3_600_000,
    run: async () => {
      const index = starts.push(clock.monotonicMs()) - 1;
      if (lastsMs > 0) await clock.sleep(lastsMs);
      if (failing(index)) throw new Error(`sync ${index}`);
    },
    ...rest,
  });
  return { clock, starts, runner };
}

t.test('requests of one turn are one sync, and min 0 means no delay', async (t) => {
  const { clock, starts, runner } = setup({ minMs: 0 });
  runner.start();
  for (let i = 0; i < 1000; i++) runner.request();
  await clock.advance(5);
  runner.request();
  await clock.advance(0);
  runner.request();
  await clock.advance(0);
  t.same(starts, [0, 5, 5]);
});

t.test('nothing runs before start, a request made before is served then', async (t) => {
  const { clock, starts, runner } = setup({});
  runner.request();
  await clock.advance(100);
  t.same(starts, []);
  runner.start();
  await clock.advance(0);
  t.same(starts, [100]);
});

t.test('a request during a sync is served by one further sync after min', async (t) => {
  const { clock, starts, runner } = setup({ lastsMs: 500 });
  runner.start();
  runner.request();
  await clock.advance(100);
  t.ok(runner.running);
  runner.request();
  runner.request();
  await clock.advance(10_000);
  t.same(starts, [0, 1500]);
  t.notOk(runner.running);
});

t.test('retries back off from fast to the retry interval; a success forgets it', async (t) => {
  const errors: unknown[] = [];
  const { clock, starts, runner } = setup({
    minMs: 10,
    retryMs: 5000,
    backoffMs: doubling(1000),
    failing: (i) => i < 5,
    onError: (error, failures) => errors.push([(error as Error).message, failures]),
  });
  runner.start();
  runner.request();
  await clock.advance(60_000);
  t.same(starts, [0, 1000, 3000, 7000, 12_000, 17_000]);
  t.same(errors.at(-1), ['sync 4', 5]);
  t.equal(runner.failures, 0);
});

t.test('a request does not wait for the retry, and its success cancels the retry', async (t) => {
  const { clock, starts, runner } = setup({ failing: (i) => i === 0 });
  runner.start();
  runner.request();
  await clock.advance(5000);
  runner.request();
  await clock.advance(100_000);
  t.same(starts, [0, 5000]);
});

t.test('a retry is never sooner than min', async (t) => {
  const { clock, starts, runner } = setup({ minMs: 4000, backoffMs: () => 1, failing: (i) => i === 0 });
  runner.start();
  runner.request();
  await clock.advance(10_000);
  t.same(starts, [0, 4000]);
});

t.test('exceptions thrown at once, also by the error handler, do not end the loop', async (t) => {
  let runs = 0;
  const { clock, runner } = setup({
    maxMs: 1000,
    run: () => {
      runs++;
      throw new Error('at once');
    },
    onError: () => {
      throw new Error('handler');
    },
  });
  runner.start();
  await clock.advance(3500);
  t.equal(runs, 3);
});

t.test('stop waits for the running sync and lets none follow', async (t) => {
  const { clock, starts, runner } = setup({ lastsMs: 500 });
  runner.start();
  runner.request();
  await clock.advance(100);
  runner.request();
  let stopped = false;
  const stop = runner.stop().then(() => {
    stopped = true;
  });
  await clock.advance(100);
  t.notOk(stopped);
  await clock.advance(300);
  await stop;
  runner.request();
  await clock.advance(10_000_000);
  t.same(starts, [0]);
  t.equal(clock.pendingTimers, 0);
});
