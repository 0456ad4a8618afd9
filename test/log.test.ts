// The shape of log lines.
import { PassThrough } from 'node:stream';
import t from 'tap';
import { createLog, defaultFormat, describeError, type LogOptions, onceEvery } from '../agent/log.ts';
import { LogRepeats } from '../agent/log-repeats.ts';

const AT = Date.parse('2026-11-02T08:15:30.123Z');

function lines(options: LogOptions, write: (log: ReturnType<typeof createLog>) => void): string[] {
  const stream = new PassThrough();
  write(createLog({ ...options, stream, now: () => AT }));
  return String(stream.read() ?? '')
    .split('\n')
    .filter((line) => line !== '');
}

const refused = Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:1'), { code: 'ECONNREFUSED' });
const failed = new Error('list failed', { cause: refused });

t.test('JSON has the keys of klog', (t) => {
  const written = lines({ format: 'json' }, (log) => {
    log.info('Synced', { services: 3, ips: new Set(['::1']), size: 5n, none: undefined });
    log.error('Failed', { err: failed, object: { inner: failed } });
    log.debug('hidden');
  }).map((line) => JSON.parse(line));
  t.same(written, [
    { ts: AT, v: 0, msg: 'Synced', services: 3, ips: ['::1'], size: '5' },
    {
      ts: AT,
      msg: 'Failed',
      err: 'list failed: connect ECONNREFUSED 127.0.0.1:1',
      object: { inner: 'list failed: connect ECONNREFUSED 127.0.0.1:1' },
    },
  ]);
  t.end();
});

t.test('text begins with level, date and time', (t) => {
  const written = lines({}, (log) => {
    log.info('Synced', { services: 3 });
    log.warn('Retry', { err: 'text' });
    log.error('Failed', { err: failed });
  });
  const pid = String(process.pid).padStart(7);
  t.same(written, [
    `I1102 08:15:30.123 ${pid} kubeplumb] "Synced" services=3`,
    `W1102 08:15:30.123 ${pid} kubeplumb] "Retry" err="text"`,
    `E1102 08:15:30.123 ${pid} kubeplumb] "Failed" err="list failed: connect ECONNREFUSED 127.0.0.1:1"`,
  ]);
  t.end();
});

t.test('verbosity 4 shows debug lines and stacks', (t) => {
  const [debug, error] = lines({ format: 'json', verbosity: 4 }, (log) => {
    log.debug('Detail');
    log.error('Failed', { err: failed });
  }).map((line) => JSON.parse(line));
  t.match(debug, { v: 4, msg: 'Detail' });
  t.match(error.stack, /log\.test\.ts/);
  t.end();
});

t.test('logging leaves the error as it was', (t) => {
  const err = new Error('x');
  lines({}, (log) => log.error('Failed', { err }));
  t.same(Object.keys(err), []);
  t.end();
});

t.test('errors are described with code and causes', (t) => {
  const code = (message: string, code: string, cause?: unknown) =>
    Object.assign(new Error(message, { cause }), { code });
  const loop = new Error('a');
  loop.cause = loop;
  for (const [thrown, text] of [
    [code('cannot open', 'EPERM', code('inner', 'EIO')), 'cannot open (EPERM): inner (EIO)'],
    [new AggregateError([refused, code('', 'EHOSTUNREACH')]), 'connect ECONNREFUSED 127.0.0.1:1, Error (EHOSTUNREACH)'],
    [new TypeError(''), 'TypeError'],
    ['text', 'text'],
    [{ a: 1 }, '{"a":1}'],
    [undefined, 'unknown error'],
    [loop, 'a'],
  ] as const) {
    t.equal(describeError(thrown), text);
  }
  t.end();
});

t.test('onceEvery lets one message through in each interval, key by key', (t) => {
  let now = 0;
  const due = onceEvery(1000, () => now);
  t.same([due('a'), due('a'), due('b')], [true, false, true]);
  now = 999;
  t.same([due('a'), due('b')], [false, false]);
  now = 1000;
  t.same([due('a'), due('a'), due('b')], [true, false, true]);
  t.end();
});

t.test('the same line is written once a minute, and then tells how many were left out', async (t) => {
  const stream = new PassThrough();
  let at = AT;
  const log = createLog({ stream, format: 'json', verbosity: 4, now: () => at });
  const written = (): object[] =>
    String(stream.read() ?? '')
      .split('\n')
      .flatMap((line) => (line === '' ? [] : [JSON.parse(line)]));
  for (let i = 0; i < 5; i++) {
    log.warn('Retry', { err: new Error('refused'), port: 1 });
    at += 1000;
  }
  log.warn('Retry', { err: new Error('refused'), port: 2 });
  log.error('Retry', { err: new Error('refused'), port: 1 });
  t.match(written(), [{ msg: 'Retry', port: 1 }, { port: 2 }, { port: 1 }], 'other fields or levels are other lines');
  at = AT + 60_000;
  for (let i = 0; i < 2; i++) log.warn('Retry', { err: new Error('refused'), port: 1 });
  t.match(written(), [{ ts: AT + 60_000, msg: 'Retry', port: 1, repeats: 4 }]);
  for (let i = 0; i < 2; i++) log.debug('Detail');
  t.equal(written().length, 2, 'debug lines are all written');
});

t.test('memory for repetitions is bounded, and a clock that is set back silences nothing', async (t) => {
  let at = 0;
  const repeats = new LogRepeats(() => at);
  const results = Array.from({ length: 5000 }, (_, i) => repeats.next(`line ${i}`));
  t.ok(results.every((leftOut) => leftOut === 0));
  t.equal(repeats.next('line 1'), null);
  t.equal(repeats.next('line 4999'), 0, 'not remembered');
  at = 60_000;
  t.equal(repeats.next('line 4999'), 0);
  t.equal(repeats.next('line 4999'), null, 'there is room again');
  at = 1000;
  t.equal(repeats.next('line 4999'), 1);
});

t.test('JSON in a pod, text for people', async (t) => {
  const pod = { KUBERNETES_SERVICE_HOST: '10.96.0.1' };
  t.equal(defaultFormat(pod, false), 'json');
  t.equal(defaultFormat(pod, true), 'text');
  t.equal(defaultFormat({}, false), 'text');
});
