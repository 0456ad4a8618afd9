// Makes a fresh clone able to run: the npm packages of the lockfile, and the system programs that tests and the demo use.
// Plain JavaScript for Node 20 or later, because it runs before anything is installed.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = resolve(fileURLToPath(new URL('..', import.meta.url)));

/** The Node that runs the project. */
export const NODE = join(ROOT, 'node_modules/.bin/node');

/** Programs and the Debian packages they come in. */
export const PROGRAMS = {
  ip: 'iproute2',
  ss: 'iproute2',
  nft: 'nftables',
  iptables: 'iptables',
  unshare: 'util-linux',
  nsenter: 'util-linux',
};

function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

/** Where programs are looked for: also where an ordinary user's PATH does not lead. */
export const SEARCH_PATH = [process.env.PATH, '/usr/local/sbin', '/usr/sbin', '/sbin'].filter(Boolean).join(delimiter);

/** Path of a program, or null. */
export function findProgram(name) {
  for (const folder of SEARCH_PATH.split(delimiter).filter(Boolean)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not here
    }
  }
  return null;
}

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return null;
  }
}

/** Compares what is installed with the lockfile; times say nothing in a clone whose node_modules were copied. */
function packagesAreInstalled() {
  const wanted = readJson(join(ROOT, 'package-lock.json'))?.packages;
  const installed = readJson(join(ROOT, 'node_modules/.package-lock.json'))?.packages;
  if (!wanted || !installed) return false;
  const present = Object.entries(installed).every(([path, { version }]) => wanted[path]?.version === version);
  const complete = Object.entries(wanted).every(
    ([path, { version, optional, devOptional }]) =>
      path === '' || optional || devOptional || installed[path]?.version === version,
  );
  return present && complete && existsSync(NODE);
}

/** Runs `npm ci` unless the packages are there already. Throws when they cannot be installed. */
export function ensurePackages() {
  if (packagesAreInstalled()) return;
  say('installing the npm packages of package-lock.json (npm ci)');
  const npm = process.env.npm_execpath;
  const [command, ...args] = npm ? [process.execPath, npm, 'ci'] : ['npm', 'ci'];
  // What npm prints goes to stderr, like all that setup says.
  const { status, error } = spawnSync(command, args, { cwd: ROOT, stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error(`npm ci failed (${error?.message ?? `exit code ${status}`})`);
  if (!existsSync(NODE)) {
    throw new Error(
      `npm has no Node package for ${process.platform} ${process.arch}; supported: Linux on x64 and arm64`,
    );
  }
}

/** Installs programs that `find` misses where that is possible; returns those still missing. Never throws. */
export function ensurePrograms(programs = PROGRAMS, find = findProgram) {
  const missing = () => Object.keys(programs).filter((name) => find(name) === null);
  const before = missing();
  if (before.length === 0) return [];
  const packages = [...new Set(before.map((name) => programs[name]))];
  if (process.getuid?.() !== 0 || findProgram('apt-get') === null) {
    say(`missing programs: ${before.join(', ')} (Debian packages: ${packages.join(' ')}); what needs them is skipped`);
    return before;
  }
  say(`installing the Debian packages ${packages.join(' ')} for ${before.join(', ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  for (const args of [
    ['update', '-q'],
    ['install', '-q', '-y', '--no-install-recommends', ...packages],
  ]) {
    const { status } = spawnSync('apt-get', args, { env, stdio: ['ignore', 2, 2] });
    // A failed update need not matter: the lists may be there.
    if (status !== 0) say(`apt-get ${args[0]} failed (exit code ${status})`);
  }
  const after = missing();
  if (after.length > 0) say(`still missing: ${after.join(', ')}; what needs them is skipped`);
  return after;
}

/** Everything that any machine can have; returns the programs that are missing. */
export function setup() {
  ensurePackages();
  return ensurePrograms();
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    setup();
  } catch (error) {
    say(error.message);
    process.exitCode = 1;
  }
}
