import t from 'tap';

interface FileResult {
  file: string;
  passed: number;
  failed: number;
  skipped: Map<string, number>;
  problem: string | null;
}

const { TapReader } = await import(String(new URL('../../scripts/tap-results.mjs', import.meta.url)));

function read(tap: string): unknown[] {
  const results: unknown[] = [];
  const onFile = ({ file, passed, failed, skipped, problem }: FileResult) =>
    results.push({ file, passed, failed, skipped: Object.fromEntries(skipped), problem });
  const reader = new TapReader({ onFile });
  for (const line of tap.split('\n')) reader.line(line);
  reader.end();
  return results;
}

const CASES: [name: string, tap: string, expected: object][] = [
  [
    'assertions count, the tests around them do not',
    '# Subtest: f\n    ok 1 - top\n    # Subtest: a\n        ok 1 - x\n        # Subtest: b\n            ok 1 - y\n            1..1\n' +
      '        ok 2 - b # time=1ms\n        1..2\n    ok 2 - a # time=2ms\n    1..2\nok 1 - f # time=3ms',
    { passed: 3, failed: 0, skipped: {}, problem: null },
  ],
  [
    'a failed assertion counts once; points inside its details do not',
    '    # Subtest: a\n        not ok 1 - x\n          ---\n          source: |\n            ok 1 - inside\n          ...\n        1..1\n' +
      '    not ok 1 - a\n      ---\n      at: here\n      ...\n    1..1\nnot ok 1 - f # time=1ms\n  ---\n  exitCode: 1\n  ...',
    { passed: 0, failed: 1, skipped: {}, problem: null },
  ],
  [
    'skipped and to do, with their reasons',
    '    ok 1 - a # SKIP needs \\# root\n    ok 2 - later # SKIP\n    not ok 3 - x # TODO some day\n    ok 4 - y\n    1..4\nok 1 - f # time=1ms',
    { passed: 1, failed: 0, skipped: { 'needs # root': 1, later: 1, 'to do: some day': 1 }, problem: null },
  ],
  [
    'a file skipped as a whole',
    '    1..0 # no network\nok 1 - f # SKIP no network',
    { passed: 0, failed: 0, skipped: { 'no network': 1 }, problem: null },
  ],
  [
    'an empty file',
    'ok 1 - f # SKIP no tests found',
    { passed: 0, failed: 1, skipped: {}, problem: 'ran no assertion' },
  ],
  [
    'tests without assertion',
    '    # Subtest: a\n        1..0\n    ok 1 - a # time=1ms\n    1..1\nok 1 - f # time=1ms',
    { passed: 0, failed: 1, skipped: {}, problem: 'ran no assertion' },
  ],
  [
    'a crash after a good assertion',
    '    ok 1 - a\nnot ok 1 - f # time=1ms\n  ---\n  exitCode: null\n  signal: SIGSEGV\n  ...',
    { passed: 1, failed: 1, skipped: {}, problem: 'signal: SIGSEGV' },
  ],
  [
    'cut short within details, where empty lines belong to them',
    '    ok 1 - a\n      ---\n      source: |\n\n        ok 1 - inside\nnot ok 1 - f\n  ---\n  exitCode: 7\n  ...',
    { passed: 1, failed: 1, skipped: {}, problem: 'exitCode: 7' },
  ],
];

t.test('results of a file', async (t) => {
  for (const [name, tap, expected] of CASES) t.same(read(tap), [{ file: 'f', ...expected }], name);
});

t.test('files are kept apart', async (t) => {
  const tap =
    'TAP version 14\n1..2\n    ok 1 - x\nok 1 - f # time=1ms\n\n    ok 1 - y\n    ok 2 - z\nok 2 - g # time=1ms\n# time=5ms';
  t.match(read(tap), [
    { file: 'f', passed: 1 },
    { file: 'g', passed: 2 },
  ]);
});
