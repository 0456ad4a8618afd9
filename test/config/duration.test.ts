import t from 'tap';
import { formatDuration, parseDuration } from '../../agent/config/duration.ts';

const CASES: [text: string, ms: number, printed: string][] = [
  ['0', 0, '0s'],
  ['-0s', 0, '0s'],
  ['30s', 30_000, '30s'],
  ['1h', 3_600_000, '1h0m0s'],
  ['24h0m0s', 86_400_000, '24h0m0s'],
  ['1m30.5s', 90_500, '1m30.5s'],
  ['-1s', -1000, '-1s'],
  ['+1.5m', 90_000, '1m30s'],
  ['100ms', 100, '100ms'],
  ['250us', 0.25, '250µs'],
  ['1µs', 0.001, '1µs'],
  ['7ns', 0.000007, '7ns'],
  ['.5s', 500, '500ms'],
  ['2h22m', 8_520_000, '2h22m0s'],
];

t.test('Go durations are read and printed', async (t) => {
  for (const [text, ms, printed] of CASES) {
    t.equal(parseDuration(text), ms, text);
    t.equal(formatDuration(ms), printed, `${text} printed`);
  }
});

t.test('what is no duration is refused', async (t) => {
  for (const text of ['', '-', '5', 's', '1 s', '1x', '1s2', '1d', '.s', '3000000h', '1e3s']) {
    t.equal(parseDuration(text), null, JSON.stringify(text));
  }
});
