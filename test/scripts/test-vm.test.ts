// `npm run test:vm`: its command line, which files it chooses, and how what a machine left behind is judged.
import t from 'tap';

const load = (path: string) => import(String(new URL(`../../${path}`, import.meta.url)));
const { KERNELS, parseArguments, readFileResult, summedUp } = await load('scripts/test-vm.mjs');
const { findVmProgram, obstacle } = await load('scripts/vm.mjs');
const kit = await load('scripts/kit-in-vm.mjs');
const { chooseFiles, suiteFiles } = await load('test/vm/suite.mjs');

const FILE = 'test/x.test.ts';

function judged(tap: string, end: string | null): object {
  const { passed, failed, skipped, problem } = readFileResult(FILE, tap, end);
  return { passed, failed, skipped: Object.fromEntries(skipped), problem };
}

t.test('command line', async (t) => {
  t.strictSame(parseArguments([]), { kernels: KERNELS, files: [], cpus: 2, limit: 600, times: false });
  t.strictSame(parseArguments(['6.1', '--cpus', '1', FILE, '6.12.107+deb13', '--times', '--limit', '90']), {
    kernels: ['6.1', '6.12.107+deb13'],
    files: [FILE],
    cpus: 1,
    limit: 90,
    times: true,
  });
  for (const args of [['--cpus'], ['--cpus', 'x'], ['--cpus', '0']]) t.throws(() => parseArguments(args), /--cpus/);
  t.throws(() => parseArguments(['latest']), /latest is no kernel version/);
});

t.test('command line of the kit', async (t) => {
  t.match(kit.parseArguments(['--mode', 'ipvs', '--case', 'lb-*', '--cpus', '1']), {
    mode: 'ipvs',
    kernel: '6.1',
    cpus: '1',
    kit: ['--case', 'lb-*'],
  });
  t.throws(() => kit.parseArguments([]), /--mode is missing/);
  t.throws(() => kit.parseArguments(['--mode']), /--mode needs a value/);
  const command = kit.kitCommand({ mode: 'ipvs', cpus: '2', kit: ['--family', '4'] });
  t.match(
    command.join(' '),
    /--mode ipvs --proxy agent --settle 20000 --command taskset -c 1 .*kubeplumb\.js .*\{config\} --family 4$/,
  );
});

t.test('files', async (t) => {
  const paths = ['test/a/b-2.test.ts', 'test/a/b-1.test.ts', 'test/a/c/b-3.test.ts', 'test/c.test.ts'];
  t.strictSame(
    chooseFiles(paths, ['test/c.test.ts', 'test/a/b-*.test.ts', 'test/*.test.ts']),
    ['test/c.test.ts', 'test/a/b-1.test.ts', 'test/a/b-2.test.ts'],
    'in the order of patterns, each once, and a star stays within a folder',
  );
  t.throws(() => chooseFiles(paths, ['test/a/*.test.ts', 'test/d*.test.ts']), /named by test\/d\*\.test\.ts/);
  const files: string[] = suiteFiles(new URL('../..', import.meta.url).pathname);
  for (const folder of ['test/agent/', 'test/backends/nftables/', 'test/backends/iptables/', 'test/native/'])
    t.ok(
      files.some((file) => file.startsWith(folder)),
      folder,
    );
});

t.test('results', async (t) => {
  const good = 'TAP version 14\nok 1 - a\n# Subtest: s\n    ok 1 - b\n    1..1\nok 2 - s # time=1ms\n\n1..2\n';
  t.strictSame(judged(good, '0 1234'), { passed: 2, failed: 0, skipped: {}, problem: null });
  t.match(judged(good, '7 1234'), { passed: 2, failed: 1, problem: 'exitCode: 7' }, 'a bad end');
  t.match(judged(good, '124 1234'), { failed: 1, problem: /no end within/ });
  t.match(judged(good, null), { failed: 1, problem: /the machine ended before/ });
  t.match(judged('ok 1 - a\n  ---\n  at: he', null), { passed: 1, failed: 1, problem: /the machine ended before/ });
  t.match(judged('', '0 1234'), { passed: 0, failed: 1, problem: 'ran no assertion' });
  t.match(judged('not ok 1 - a\n1..1\n', '1 1234'), { passed: 0, failed: 1, problem: null });
  const skipped = (reason: string): string => `ok 1 - a\nok 2 - s # SKIP ${reason}\n1..2\n`;
  t.strictSame(judged(skipped('KUBE_PROXY is not set'), '0 1'), {
    passed: 1,
    failed: 0,
    skipped: { 'KUBE_PROXY is not set': 1 },
    problem: null,
  });
  for (const reason of [
    'this kernel has no IPVS (module ip_vs)',
    'IPVS wants root outside of a user namespace',
    'needs network namespaces: x',
    'no program "nft"',
    'the kernel has no accounting',
  ])
    t.match(judged(skipped(reason), '0 1'), { passed: 1, failed: 1, skipped: {}, problem: /must not be skipped/ });
});

t.test('results of a machine', async (t) => {
  const result = { passed: 3, failed: 0, skipped: new Map([['x', 2]]) };
  t.strictSame(summedUp([result, result], null), { passed: 6, failed: 0, skipped: 4, problem: null });
  t.match(summedUp([result], 'exit code 125'), { passed: 3, failed: 1, problem: 'exit code 125' });
  for (const results of [[], [{ ...result, passed: 0 }]])
    t.match(summedUp(results, null), { passed: 0, failed: 1, problem: 'nothing was tested' });
  t.match(summedUp([{ ...result, passed: 0, failed: 1 }], null), { failed: 1, problem: null });
});

t.test('what a machine needs', async (t) => {
  const has =
    (...missing: string[]) =>
    (name: string) =>
      missing.includes(name) ? null : `/bin/${name}`;
  t.equal(obstacle({ arch: 'x64', find: has() }), null);
  t.match(obstacle({ arch: 'arm64', find: has() }), /arm64/);
  const reason = obstacle({ arch: 'x64', find: has('qemu-system-x86_64', 'cpio', 'depmod') });
  t.match(reason, /^qemu-system-x86_64, cpio, depmod missing: apt-get install .* qemu-system-x86 cpio kmod$/);
  t.match(obstacle({ arch: 'x64', find: has('busybox') }), /^static busybox missing: .* busybox-static$/);
  t.equal(
    findVmProgram('busybox', () => process.execPath),
    null,
    'a dynamic one will not do',
  );
  t.equal(
    findVmProgram('cpio', () => process.execPath),
    process.execPath,
  );
});
