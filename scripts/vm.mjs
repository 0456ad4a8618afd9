// Virtual machines with other kernels: what this machine lacks for them, fetching a kernel, running a command in one.
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ensurePrograms, findProgram, NODE, PROGRAMS, ROOT, SEARCH_PATH } from './setup.mjs';

const VM_RUN = join(ROOT, 'test/vm/vm-run');

/** Programs that machines and the tests in them need, and the Debian packages they come in. */
export const VM_PROGRAMS = {
  ...PROGRAMS,
  'qemu-system-x86_64': 'qemu-system-x86',
  busybox: 'busybox-static',
  cpio: 'cpio',
  depmod: 'kmod',
  xz: 'xz-utils',
  zstd: 'zstd',
  ipvsadm: 'ipvsadm',
};

/** Path of a program for machines, or null. A dynamic busybox is none: a machine has it before it has any library. */
export function findVmProgram(name, find = findProgram) {
  const path = find(name);
  if (name !== 'busybox' || path === null) return path;
  return spawnSync('ldd', [path], { encoding: 'utf8' }).stdout?.includes('=>') ? null : path;
}

/** Installs what machines lack where that is possible. */
export function ensureVmPrograms() {
  if (process.arch === 'x64') ensurePrograms(VM_PROGRAMS, findVmProgram);
}

/** Why there can be no machine here, with what would help; null when there can. */
export function obstacle({ arch = process.arch, find = findVmProgram } = {}) {
  if (arch !== 'x64') return `machines need an x64 host, this is ${arch}`;
  const missing = Object.keys(VM_PROGRAMS).filter((name) => find(name) === null);
  if (missing.length === 0) return null;
  const packages = [...new Set(missing.map((name) => VM_PROGRAMS[name]))];
  const names = missing.map((name) => (name === 'busybox' ? 'static busybox' : name));
  return `${names.join(', ')} missing: apt-get install --no-install-recommends ${packages.join(' ')}`;
}

const env = { ...process.env, PATH: SEARCH_PATH };

/** Makes sure that a kernel is there. Returns its release. Throws Error with the reason why it cannot be had. */
export function fetchKernel(kernel) {
  const { status, stdout, stderr, error } = spawnSync(VM_RUN, ['--fetch', kernel], { env, encoding: 'utf8' });
  if (error) throw error;
  if (status === 0) return stdout.trim();
  const said = stderr
    .trim()
    .split('\n')
    .at(-1)
    ?.replace(/^vm-run: /, '');
  throw new Error(`no kernel ${kernel}: ${said || `exit code ${status}`}`);
}

/** Bundles the programs into a folder: in a machine Node would need some 20 s for the many files of the sources. */
export function bundlePrograms(folder) {
  const { status, stderr } = spawnSync(NODE, [join(ROOT, 'scripts/build.mjs'), folder], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the programs cannot be bundled: ${stderr}`);
}

/**
 * Runs a command as root in a machine, in the project's folder. `writable` are folders it may write to for good.
 * Resolves with the exit code (124: took longer than `limit` seconds, 125: the machine itself failed) and, unless
 * `inherit` is set, all that it printed. Rejects when a signal stops this process, once the machine has ended.
 */
export function runInVm(command, { kernel, cpus, limit, writable = [], variables = {}, inherit = false }) {
  const args = ['--kernel', kernel, '--cpus', String(cpus), '--timeout', String(limit)];
  for (const folder of writable) args.push('--rw', folder);
  for (const [name, value] of Object.entries(variables)) args.push('--env', `${name}=${value}`);
  const child = spawn(VM_RUN, [...args, '--', ...command], {
    cwd: ROOT,
    env,
    stdio: ['ignore', inherit ? 'inherit' : 'pipe', inherit ? 'inherit' : 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
  let stoppedBy = null;
  const stop = (signal) => {
    stoppedBy = signal;
    child.kill();
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const signal of signals) process.on(signal, stop);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (stoppedBy !== null) reject(new Error(`stopped by ${stoppedBy}`));
      else resolve({ code: code ?? signal, output });
    });
  }).finally(() => {
    for (const signal of signals) process.removeListener(signal, stop);
  });
}
