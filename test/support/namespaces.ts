// Network namespaces for tests, the demo and the benchmark: as root, or as an ordinary user inside a private user
// namespace. Nothing here starts a process per call: the JavaScript thread itself steps into a namespace and back.
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { setns } from '../../native/libc.ts';

const FOLDER = '/run/netns';
const CLONE_NEWNET = 0x40000000;
const INSIDE = 'KUBEPLUMB_IN_USER_NAMESPACE';
const NAME = /^kubeplumb-(\d+)-/;

const home = openSync('/proc/thread-self/ns/net', 'r');
const created = new Map<string, number>();
const children = new Set<number>();
let watching = false;

/** `kubeplumb-<pid>-<role>`: the name of a namespace of this process. */
export function namespaceName(role: string): string {
  return `kubeplumb-${process.pid}-${role}`;
}

function run(program: string, args: readonly string[], input = ''): string {
  const result = spawnSync(program, args, { input, encoding: 'utf8' });
  if (result.error) throw new Error(`${program} ${args.join(' ')}: ${result.error.message}`, { cause: result.error });
  if (result.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${result.stderr.trim()}`);
  return result.stdout;
}

/** Runs lines of `ip -batch`, in a namespace of this process when `role` is given. Throws with what `ip` said. */
export function ipBatch(lines: readonly string[], role: string | null = null): void {
  const where = role === null ? [] : ['-n', namespaceName(role)];
  run('ip', [...where, '-batch', '-'], `${lines.join('\n')}\n`);
}

/** Removes namespaces whose creator no longer runs. */
function sweep(): void {
  if (!existsSync(FOLDER)) return;
  const dead = readdirSync(FOLDER).filter((name) => {
    const pid = NAME.exec(name)?.[1];
    return pid !== undefined && !existsSync(`/proc/${pid}`);
  });
  if (dead.length > 0)
    spawnSync('ip', ['-force', '-batch', '-'], { input: dead.map((n) => `netns del ${n}\n`).join('') });
}

function removeAll(): void {
  for (const pid of children) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
  children.clear();
  removeNamespaces([...created.keys()]);
}

/** Kills this process when the test ends, even when it fails. */
export function endAtExit(pid: number): void {
  children.add(pid);
}

/** To be called when a process given to endAtExit has ended, before its id is used again. */
export function hasEnded(pid: number): void {
  children.delete(pid);
}

/** Creates namespaces; they go at exit, also after a failure or a signal. */
export function createNamespaces(roles: readonly string[]): void {
  if (!watching) {
    watching = true;
    sweep();
    process.once('exit', removeAll);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.once(signal, () => process.exit(128 + constants.signals[signal]));
    }
  }
  const names = roles.map(namespaceName);
  try {
    ipBatch(names.map((name) => `netns add ${name}`));
  } finally {
    for (const [i, name] of names.entries()) {
      if (existsSync(`${FOLDER}/${name}`)) created.set(roles[i]!, openSync(`${FOLDER}/${name}`, 'r'));
    }
  }
}

/** Removes namespaces; processes that still run in one keep it alive. */
export function removeNamespaces(roles: readonly string[]): void {
  const known = roles.filter((role) => created.has(role));
  for (const role of known) {
    closeSync(created.get(role)!);
    created.delete(role);
  }
  const input = known.map((role) => `netns del ${namespaceName(role)}\n`).join('');
  if (input !== '') spawnSync('ip', ['-force', '-batch', '-'], { input });
}

/**
 * Runs `act` with this thread in the namespace: sockets it opens and processes it starts belong there for good.
 * `act` must do that synchronously; a promise it returns is awaited by the caller, outside.
 */
export function within<T>(role: string, act: () => T): T {
  const fd = created.get(role);
  if (fd === undefined) throw new Error(`no network namespace "${role}"`);
  setns(fd, CLONE_NEWNET);
  try {
    return act();
  } finally {
    setns(home, CLONE_NEWNET);
  }
}

/** Why namespaces cannot be had here, or null. Tries it: permission depends on more than the user id. */
function obstacle(programs: readonly string[]): string | null {
  for (const program of programs) {
    if (spawnSync(program, ['-V'], { stdio: 'ignore' }).error) return `no program "${program}"`;
  }
  const probe = namespaceName('probe');
  const input = `netns add ${probe}\nlink add kp${process.pid} netns ${probe} type veth peer name eth0 netns ${probe}\n`;
  const { status, stderr } = spawnSync('ip', ['-batch', '-'], { input, encoding: 'utf8' });
  spawnSync('ip', ['netns', 'del', probe], { stdio: 'ignore' });
  return status === 0 ? null : stderr.trim().replaceAll('\n', '; ');
}

/** Whether this process was started again inside a user namespace of its own. */
export function inUserNamespace(): boolean {
  return process.env[INSIDE] === '1';
}

const PREPARE = 'mount -t tmpfs tmpfs /run && mkdir /run/netns && exec setpriv --pdeathsig TERM -- "$@"';

/** Runs this very program again inside a user namespace and ends with its exit code. Never returns. */
async function runInside(): Promise<never> {
  const argv = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const child = spawn('unshare', ['-Urnm', '--', 'sh', '-c', PREPARE, 'sh', ...argv], {
    stdio: 'inherit',
    env: { ...process.env, [INSIDE]: '1' },
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (status, signal) => resolve(status ?? 128 + constants.signals[signal!]));
  });
  process.exit(code);
}

/**
 * Makes sure that this process may create network namespaces; an ordinary user's process is started again inside
 * `unshare -Urnm`, and then this call does not return. Await it at the top of the file, before the first test.
 * @returns null when all is well, else the reason to skip with: `t.test('…', { skip: reason ?? false }, …)`.
 */
export async function namespacesMissing(programs: readonly string[] = ['ip', 'nft']): Promise<string | null> {
  const reason = obstacle(programs);
  if (reason === null) return null;
  if (inUserNamespace() || reason.startsWith('no program')) return `needs network namespaces: ${reason}`;
  const trial = spawnSync('unshare', ['-Urnm', '--', 'sh', '-c', PREPARE, 'sh', 'true'], { encoding: 'utf8' });
  if (trial.error || trial.status !== 0) {
    const why = trial.error?.message ?? trial.stderr.trim().replaceAll('\n', '; ');
    return `needs network namespaces: ${reason}; and no user namespace: ${why}`;
  }
  return runInside();
}
