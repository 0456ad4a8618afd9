// `npm run image:rootfs -- DIR`: assembles the image's file system in DIR without a container engine, from debootstrap and
// the same steps as the Dockerfile (deploy/image), and prints what is in it. Needs root, Debian's debootstrap, and registries.
//   --base DIR     an unpacked Debian to take the system's part from; made with debootstrap and removed again when not given
//   --system DIR   takes the system's part from a file system assembled before, and only renews the project's
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ensurePackages, findProgram, NODE, ROOT, SEARCH_PATH } from './setup.mjs';

const SUITE = 'bookworm';
const IMAGE = join(ROOT, 'deploy/image');

/** Debian's packages that the image takes files from. */
export function imagePackages() {
  return readFileSync(join(IMAGE, 'packages'), 'utf8').split(/\s+/).filter(Boolean);
}

/** Why nothing can be assembled here, or null. */
export function obstacle({ base = null } = {}) {
  if (process.getuid?.() !== 0) return 'needs root (chroot)';
  if (findProgram('chroot') === null) return 'no program chroot';
  if (base === null && findProgram('debootstrap') === null)
    return 'no program debootstrap (Debian package debootstrap)';
  return null;
}

function run(command, args) {
  const { status, signal, error } = spawnSync(command, args, {
    stdio: ['ignore', 2, 2],
    env: { ...process.env, PATH: SEARCH_PATH, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' },
    cwd: ROOT,
  });
  if (status !== 0)
    throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? signal ?? `exit code ${status}`}`);
}

/** The archive this machine's own packages come from. */
function mirror() {
  const { stdout } = spawnSync('apt-get', ['indextargets', '--format', '$(SITE)', 'Created-By: Packages'], {
    encoding: 'utf8',
  });
  const site = stdout?.split('\n').find((line) => line.startsWith('http') && !line.includes('security'));
  if (!site) throw new Error('apt knows no archive');
  return site;
}

/** An unpacked Debian with the image's packages. */
function bootstrap(folder) {
  run('debootstrap', ['--variant=minbase', `--include=${imagePackages().join(',')}`, SUITE, folder, mirror()]);
}

/**
 * Fills `target`, which must not exist, with the image's file system. Programs write to stderr.
 * @throws Error with the step that failed
 */
export function assemble({ target, base = null, system = null }) {
  ensurePackages();
  run(NODE, ['scripts/build.mjs']);
  if (system !== null) {
    cpSync(system, target, { recursive: true, verbatimSymlinks: true });
    rmSync(join(target, 'usr/lib/kubeplumb'), { recursive: true, force: true });
    run(join(IMAGE, 'app'), [ROOT, target]);
    return;
  }
  const own = base === null ? mkdtempSync(join(tmpdir(), 'kubeplumb-debian-')) : null;
  const debian = base ?? own;
  const inside = mkdtempSync(join(debian, 'kubeplumb-'));
  const name = inside.slice(debian.length);
  try {
    if (own !== null) bootstrap(own);
    run(join(IMAGE, 'app'), [ROOT, join(inside, 'rootfs')]);
    cpSync(IMAGE, join(inside, 'image'), { recursive: true });
    run('chroot', [debian, `${name}/image/system`, `${name}/rootfs`]);
    cpSync(join(inside, 'rootfs'), target, { recursive: true, verbatimSymlinks: true });
  } finally {
    rmSync(own ?? inside, { recursive: true, force: true });
  }
}

/** Bytes of files below, links counted as nothing. */
function size(path) {
  const stat = lstatSync(path);
  if (!stat.isDirectory()) return stat.isFile() ? stat.size : 0;
  return readdirSync(path).reduce((sum, name) => sum + size(join(path, name)), 0);
}

/** What the file system holds: lines of text, for people. */
export function contents(target) {
  const lib = readdirSync(join(target, 'usr/lib')).find((name) => name.endsWith('-linux-gnu'));
  const parts = {
    'usr/local/bin/node': 'Node.js',
    'usr/lib/kubeplumb/dist': 'bundles of kubeplumb and agentctl',
    'usr/lib/kubeplumb/node_modules': 'native modules',
    'usr/sbin': 'iptables, both variants',
    [`usr/lib/${lib}/xtables`]: 'extensions of iptables',
    [`usr/lib/${lib}`]: 'shared libraries, extensions included',
    'usr/share/doc': 'licences',
    'var/lib/dpkg/status.d': 'packages, for scanners',
    '.': 'all',
  };
  const lines = Object.entries(parts).map(
    ([path, what]) => `${(size(join(target, path)) / 2 ** 20).toFixed(1).padStart(7)} MiB  ${what} (${path})`,
  );
  const packages = readdirSync(join(target, 'var/lib/dpkg/status.d')).sort();
  return [...lines, `from Debian: ${packages.join(' ')}`];
}

function main() {
  const { values, positionals } = parseArgs({
    options: { base: { type: 'string' }, system: { type: 'string' } },
    allowPositionals: true,
  });
  const [folder] = positionals;
  if (folder === undefined || existsSync(folder)) throw new Error('give the name of a folder that does not exist');
  const options = { base: values.base ?? null, system: values.system ?? null };
  const why = obstacle(options);
  if (why !== null) throw new Error(why);
  const target = resolve(folder);
  const building = `${target}.new-${process.pid}`;
  try {
    assemble({ target: building, ...options });
    renameSync(building, target);
  } finally {
    rmSync(building, { recursive: true, force: true });
  }
  console.log(contents(target).join('\n'));
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    main();
  } catch (error) {
    process.stderr.write(`image-rootfs: ${error.message}\n`);
    process.exitCode = 1;
  }
}
