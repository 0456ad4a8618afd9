// test/vm/vm-run around the machine, which a script plays here: exit codes, and that nothing is left when it is stopped.
import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import t from 'tap';
import { until } from '../support/test-node.ts';

const ROOT = new URL('../..', import.meta.url).pathname;
const VM_RUN = join(ROOT, 'test/vm/vm-run');

/** Plays QEMU: gives the sign of life that a guest gives, writes its process id, and then does as PLAY says. */
const PLAYED = `#!/bin/bash
for arg; do
  case $arg in
    local,id=ctl,path=*) ctl=\${arg#*path=}; ctl=\${ctl%%,*} ;;
    file,id=out,path=*) out=\${arg#*path=} ;;
    file,id=err,path=*) err=\${arg#*path=} ;;
  esac
done
: > "$ctl/started"
echo $$ > "$PLAYED_PID"
case $PLAY in
  run) bash "$ctl/command" > "$out" 2> "$err"; echo $? > "$ctl/rc" ;;
  die) exit 3 ;;
  stay) exec sleep 60 ;;
esac
`;

const folder = mkdtempSync(join(tmpdir(), 'kubeplumb-test-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
for (const name of ['bin', 'tmp', 'cache/9.9']) mkdirSync(join(folder, name), { recursive: true });
writeFileSync(join(folder, 'bin/qemu-system-x86_64'), PLAYED);
chmodSync(join(folder, 'bin/qemu-system-x86_64'), 0o755);
writeFileSync(join(folder, 'cache/9.9/format'), /^FORMAT=(\d+)/m.exec(readFileSync(VM_RUN, 'utf8'))![1]!);
const pidFile = join(folder, 'pid');

interface Run {
  readonly pid: number;
  readonly ended: Promise<{ code: number | null; stdout: string; stderr: string }>;
}

function start(play: string, command: string, args: readonly string[]): Run {
  rmSync(pidFile, { force: true });
  const env = {
    ...process.env,
    PATH: `${join(folder, 'bin')}${delimiter}${process.env.PATH}`,
    KUBEPLUMB_VM_CACHE: join(folder, 'cache'),
    TMPDIR: join(folder, 'tmp'),
    PLAY: play,
    PLAYED_PID: pidFile,
  };
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const text = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (part) => {
      text[name] += part;
    });
  return {
    pid: child.pid!,
    ended: new Promise((resolve) => child.once('close', (code) => resolve({ code, ...text }))),
  };
}

const vmRun = (play: string, ...args: string[]): Run => start(play, VM_RUN, ['--kernel', '9.9', ...args]);

const isThere = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

/** Process id of the played machine, once it runs. */
async function machine(): Promise<number> {
  const pid = (): number => (existsSync(pidFile) ? Number(readFileSync(pidFile, 'utf8')) : 0);
  await until('the machine runs', () => pid() > 0);
  return pid();
}

t.test('how it ends', async (t) => {
  t.match(await vmRun('run', '--', 'sh', '-c', 'echo said; echo told >&2; exit 7').ended, {
    code: 7,
    stdout: 'said\n',
    stderr: /^told\n/,
  });
  const began = performance.now();
  t.match(await vmRun('die', '--timeout', '30', 'true').ended, { code: 125, stderr: /failed \(QEMU exit code 3\)/ });
  t.ok(performance.now() - began < 20_000, 'a machine that has ended is not waited for');
  t.match(await vmRun('stay', '--timeout', '1', 'true').ended, { code: 124, stderr: /no result after 1 s/ });
  t.strictSame(readdirSync(join(folder, 'tmp')), [], 'no folder is left');
});

t.test('stopped', async (t) => {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    const { pid, ended } = vmRun('stay', 'true');
    const qemu = await machine();
    process.kill(pid, signal);
    t.match(await ended, { code, stderr: '' }, signal);
    t.notOk(isThere(qemu), 'the machine is gone');
    t.strictSame(readdirSync(join(folder, 'tmp')), [], 'so is the folder');
  }
});

t.test('a script that runs it is stopped', async (t) => {
  const script = `import { runInVm } from '${ROOT}scripts/vm.mjs';
    await runInVm(['true'], { kernel: '9.9', cpus: 1, limit: 60 }).catch((error) => console.log(error.message));`;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const { pid, ended } = start('stay', process.execPath, ['--input-type=module', '--eval', script]);
    const qemu = await machine();
    process.kill(pid, signal);
    t.match(await ended, { code: 0, stdout: `stopped by ${signal}\n` });
    t.notOk(isThere(qemu), 'after the machine has gone');
  }
});
