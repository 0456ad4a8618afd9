// `npm test [-- files and options of tap]`: sets up what is needed, runs the tests with tap, and sums up. A file that runs
// no assertion, hangs, or never reports counts as a failure. Last line: `N passed, N failed, N skipped` (assertions).
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join, relative, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { NODE, ROOT, SEARCH_PATH, setup } from './setup.mjs';
import { TapReader } from './tap-results.mjs';

const TAP = join(ROOT, 'node_modules/.bin/tap');
const TEST_CLASS = join(ROOT, 'node_modules/@tapjs/test/test-built/dist/esm/index.js');

/** Lines shown of a failed file. */
const MAX_LINES = 60;

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

function report(result) {
  const skipped = [...result.skipped.values()].reduce((a, b) => a + b, 0);
  const counts = [`${result.passed} passed`];
  if (result.failed > 0) counts.push(`${result.failed} failed`);
  if (skipped > 0) counts.push(`${skipped} skipped`);
  console.log(`${result.failed > 0 ? 'FAIL' : 'ok  '} ${result.file}: ${counts.join(', ')}`);
  for (const [reason, count] of result.skipped)
    console.log(`       skipped${count > 1 ? ` ${count} times` : ''}: ${reason}`);
  if (result.problem !== null) console.log(`       ${result.problem}`);
  if (result.failed > 0) {
    const told = result.lines.filter((text) => !/^ *(ok\b|1\.\.\d|# (Subtest|time)|$)/.test(text));
    for (const line of told.slice(0, MAX_LINES)) console.log(`  | ${line}`);
    if (told.length > MAX_LINES) console.log(`  | … all of it: node_modules/.bin/node ${result.file}`);
  }
}

async function run(args) {
  const total = { passed: 0, failed: 0, skipped: 0 };
  const missing = new Set(expectedFiles(args));
  const reader = new TapReader({
    onFile(result) {
      // What tap says about itself, such as a time-out, is told with the file concerned.
      if (!missing.delete(result.file) && !result.file.endsWith('.test.ts')) return;
      report(result);
      total.passed += result.passed;
      total.failed += result.failed;
      total.skipped += [...result.skipped.values()].reduce((a, b) => a + b, 0);
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
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  return total.failed === 0 ? 0 : 1;
}

process.stdout.on('error', () => process.exit(1)); // the reader of a pipe has gone
try {
  setup();
  buildTap();
  process.exitCode = await run(process.argv.slice(2));
} catch (error) {
  console.error(`test: ${error.message}`);
  console.log('0 passed, 1 failed, 0 skipped');
  process.exitCode = 1;
}
