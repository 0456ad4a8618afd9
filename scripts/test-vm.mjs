// `npm run test:vm [-- --cpus N --limit SECONDS --times KERNEL… FILE…]`: the tests of test/vm/suite.mjs in virtual machines with Debian's
// kernels, one after the other. A line for each kernel, what failed, and last `N passed, N failed, N skipped`.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NO_REASON, suiteFiles } from '../test/vm/suite.mjs';
import { fileReport, skippedCount } from './file-report.mjs';
import { ensurePackages, ROOT } from './setup.mjs';
import { TapReader } from './tap-results.mjs';
import { bundlePrograms, ensureVmPrograms, fetchKernel, obstacle, runInVm } from './vm.mjs';

/** Oldest supported, the one after it, and the newest 7.x that the archive has when it is first fetched. */
export const KERNELS = ['6.1', '6.12', '7'];

/** An emulated machine is about this much slower. */
const TIME_SCALE = 6;

/** Settings of tests that are passed on. */
const PASSED_ON = ['SEED', 'SWITCH_CONNECTS'];

/** What a file may take of the seconds for its kernel. */
const FILE_SHARE = 0.4;

/** The command line; throws on what it does not know. */
export function parseArguments(args) {
  const options = { kernels: [], files: [], cpus: 2, limit: 600, times: false };
  for (let i = 0; i < args.length; i++) {
    const arg = args[i];
    if (arg === '--times') options.times = true;
    else if (arg === '--cpus' || arg === '--limit') {
      const value = Number(args[++i]);
      if (!Number.isInteger(value) || value < 1) throw new Error(`${arg} needs a number`);
      options[arg.slice(2)] = value;
    } else if (arg.endsWith('.test.ts')) options.files.push(arg);
    else if (/^\d[\w.+-]*$/.test(arg)) options.kernels.push(arg);
    else throw new Error(`${arg} is no kernel version and no test file`);
  }
  if (options.kernels.length === 0) options.kernels = KERNELS;
  return options;
}

/** What a file did, from what it printed and `EXITCODE MILLISECONDS`, which is null when it did not end. Returns a FileResult. */
export function readFileResult(file, tap, end) {
  let result = null;
  const reader = new TapReader({ onFile: (found) => (result = found) });
  // As tap prints the files it runs: a test point of the file around those in it.
  for (const line of tap.split('\n')) reader.line(line === '' ? '' : `    ${line}`);
  const code = end === null ? null : Number(end.split(' ')[0]);
  reader.line(`${code === 0 ? 'ok' : 'not ok'} 1 - ${file}`);
  if (code !== 0) for (const line of ['  ---', `  ${told(code)}`, '  ...']) reader.line(line);
  reader.end();
  for (const [reason, count] of result.skipped) {
    if (!NO_REASON.some((pattern) => pattern.test(reason))) continue;
    result.skipped.delete(reason);
    result.failed += count;
    result.problem = `must not be skipped: ${reason}`;
  }
  return result;
}

function told(code) {
  if (code === null) return 'expired: the machine ended before this file did';
  return code === 124 || code === 137 ? `expired: no end within its time` : `exitCode: ${code}`;
}

const readIfThere = (path) => (existsSync(path) ? readFileSync(path, 'utf8') : null);

/** Runs the suite on a kernel that is there. Resolves with FileResults, each with `seconds`. */
async function runOn(kernel, { files, cpus, limit }) {
  const folder = mkdtempSync(join(tmpdir(), 'kubeplumb-vm-'));
  try {
    writeFileSync(join(folder, 'files'), files.map((file) => `${file}\n`).join(''));
    bundlePrograms(join(folder, 'dist'));
    const passedOn = Object.fromEntries(
      PASSED_ON.flatMap((name) => (name in process.env ? [[name, process.env[name]]] : [])),
    );
    const fileLimit = Math.round(limit * FILE_SHARE);
    const began = performance.now();
    const { code, output } = await runInVm(['test/vm/run-files', folder, String(cpus), String(fileLimit)], {
      kernel,
      cpus,
      limit,
      writable: [folder],
      variables: { VM_TIME_SCALE: TIME_SCALE, TAP_TIMEOUT: fileLimit, ...passedOn },
    });
    const seconds = (performance.now() - began) / 1000;
    const results = files.map((file, i) => {
      const end = readIfThere(join(folder, `${i}.end`));
      const result = readFileResult(file, readIfThere(join(folder, `${i}.tap`)) ?? '', end);
      return { ...result, seconds: end === null ? null : Number(end.split(' ')[1]) / 1000 };
    });
    return { results, seconds, problem: code === 0 ? null : `exit code ${code}\n${output}`.trim() };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Counts of a machine's FileResults and what was wrong with the machine itself, which counts as a failure: also that nothing was tested. */
export function summedUp(results, problem) {
  const sum = { passed: 0, failed: problem === null ? 0 : 1, skipped: 0, problem };
  for (const result of results) {
    sum.passed += result.passed;
    sum.failed += result.failed;
    sum.skipped += skippedCount(result);
  }
  return sum.passed + sum.failed > 0 ? sum : { ...sum, failed: 1, problem: 'nothing was tested' };
}

/** Runs the suite on each kernel and tells about it. A kernel that cannot be had has failed, or is skipped when `optional`. */
export async function testKernels({
  kernels,
  cpus = 2,
  limit = 600,
  files,
  times = false,
  optional = false,
  say = console.log,
}) {
  const total = { passed: 0, failed: 0, skipped: 0 };
  const unavailable = (reason) => {
    say(optional ? `VM tests skipped: ${reason}` : `FAIL ${reason}`);
    total[optional ? 'skipped' : 'failed']++;
  };
  const reason = obstacle();
  if (reason !== null) {
    unavailable(reason);
    return total;
  }
  for (const kernel of kernels) {
    let release;
    try {
      release = fetchKernel(kernel);
    } catch (error) {
      unavailable(error.message);
      continue;
    }
    const { results, seconds, problem: machineProblem } = await runOn(kernel, { files, cpus, limit });
    const { problem, ...sum } = summedUp(results, machineProblem);
    const counts = `${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`;
    say(`${sum.failed > 0 ? 'FAIL' : 'ok  '} Linux ${release}: ${counts}, ${Math.round(seconds)} s`);
    if (problem !== null) say(`     the machine: ${problem}`);
    const again = 'npm run test:vm -- ';
    for (const result of results) {
      if (result.failed === 0 && result.skipped.size === 0 && !times) continue;
      const [first, ...rest] = fileReport(result, { again: `${again}${kernel} ${result.file}` });
      const took = result.seconds === null ? '' : ` (${result.seconds.toFixed(0)} s)`;
      for (const line of [`${first}${took}`, ...rest]) say(`     ${line}`);
    }
    for (const name of Object.keys(total)) total[name] += sum[name];
  }
  return total;
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    const { files, ...options } = parseArguments(process.argv.slice(2));
    ensurePackages();
    ensureVmPrograms();
    const chosen = files.length > 0 ? files : suiteFiles(ROOT);
    const { passed, failed, skipped } = await testKernels({ ...options, files: chosen });
    console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
    process.exitCode = failed === 0 ? 0 : 1;
  } catch (error) {
    console.error(`test:vm: ${error.message}`);
    console.log('0 passed, 1 failed, 0 skipped');
    process.exitCode = 1;
  }
}
