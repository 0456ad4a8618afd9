// `npm test [-- files and options of tap]`: sets up what is needed, runs the tests with tap, and sums up. A file that runs
// no assertion, hangs, or never reports counts as a failure. Without arguments a virtual machine with another kernel follows.
// Last line: `N passed, N failed, N skipped` (assertions).
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join, relative, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { SHORT_SUITE, suiteFiles } from '../test/vm/suite.mjs';
import { fileReport, skippedCount } from './file-report.mjs';
import { NODE, ROOT, SEARCH_PATH, setup } from './setup.mjs';
import { TapReader } from './tap-results.mjs';
import { testKernels } from './test-vm.mjs';
import { ensureVmPrograms } from './vm.mjs';

const TAP = join(ROOT, 'node_modules/.bin/tap');
const TEST_CLASS = join(ROOT, 'node_modules/@tapjs/test/test-built/dist/esm/index.js');

/** The kernel of the virtual machine at the end; `npm run test:vm` has more. */
const VM_KERNEL = '6.1';
/** Two minutes on a quiet machine; others may be at work beside it. */
const VM_SECONDS = 1200;

/** tap as installed still holds its TypeScript plugin, which .taprc turns off: its test class is built again, once. */
function buildTap() {
  if (existsSync(TEST_CLASS) && !readFileSync(TEST_CLASS, 'utf8').includes('@tapjs/typescript')) return;
  process.stderr.write('setup: building the test class of tap (once)\n');
  const { status, stdout, stderr } = spawnSync(NODE, [TAP, 'build'], { cwd: ROOT, encoding: 'utf8' });
  if (status !== 0) throw new Error(`tap build failed (exit code ${status}):\n${stdout}${stderr}`);
}

/** Files that must report: those named, or all tests. */
function expectedFiles(args) {
  const named = args.filter((arg) => arg.endsWith('.test.ts') && existsSync(join(ROOT, arg)));
  if (named.length > 0 || args.some((arg) => !arg.startsWith('-')))
    return named.map((arg) => relative(ROOT, resolve(ROOT, arg)));
  return readdirSync(join(ROOT, 'test'), { recursive: true })
    .filter((path) => path.endsWith('.test.ts'))
    .map((path) => join('test', path));
}

async function run(args) {
  const total = { passed: 0, failed: 0, skipped: 0 };
  const missing = new Set(expectedFiles(args));
  const reader = new TapReader({
    onFile(result) {
      // What tap says about itself, such as a time-out, is told with the file concerned.
      if (!missing.delete(result.file) && !result.file.endsWith('.test.ts')) return;
      for (const line of fileReport(result)) console.log(line);
      total.passed += result.passed;
      total.failed += result.failed;
      total.skipped += skippedCount(result);
    },
  });
  const child = spawn(NODE, [TAP, '--reporter=tap', ...args], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
    // tap starts the test files with the `node` it finds.
    env: { ...process.env, PATH: `${dirname(NODE)}${delimiter}${SEARCH_PATH}` },
  });
  const ended = new Promise((done, failed) => {
    child.on('error', failed);
    child.on('close', (code, signal) => done(code ?? signal));
  });
  for await (const line of createInterface({ input: child.stdout })) reader.line(line);
  reader.end();
  const code = await ended;
  for (const file of missing) {
    console.log(`FAIL ${file}: did not report`);
    total.failed++;
  }
  if (code !== 0 && total.failed === 0) {
    console.log(`FAIL tap itself ended with ${code}`);
    total.failed++;
  }
  if (total.passed + total.failed + total.skipped === 0) {
    console.log('FAIL nothing was run');
    total.failed++;
  }
  return total;
}

/** Everything also means IPVS on another kernel, where there can be one. */
async function runInMachine() {
  if (process.env.KUBEPLUMB_NO_VM === '1') {
    console.log('VM tests skipped: KUBEPLUMB_NO_VM=1');
    return { passed: 0, failed: 0, skipped: 1 };
  }
  return testKernels({ kernels: [VM_KERNEL], files: suiteFiles(ROOT, SHORT_SUITE), limit: VM_SECONDS, optional: true });
}

process.stdout.on('error', () => process.exit(1)); // the reader of a pipe has gone
try {
  const args = process.argv.slice(2);
  const everything = args.length === 0;
  setup();
  if (everything && process.env.KUBEPLUMB_NO_VM !== '1') ensureVmPrograms();
  buildTap();
  const total = await run(args);
  if (everything) for (const [name, count] of Object.entries(await runInMachine())) total[name] += count;
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  process.exitCode = total.failed === 0 ? 0 : 1;
} catch (error) {
  console.error(`test: ${error.message}`);
  console.log('0 passed, 1 failed, 0 skipped');
  process.exitCode = 1;
}
