// The command line of agentctl, in the test's process and as a program with pipes.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { AGENTCTL, agentctl, MANIFESTS } from '../support/agentctl.ts';

t.test('help, version, and commands that do not exist', async (t) => {
  for (const argv of [['--help'], ['help', 'dump'], ['dump', '--help'], ['status', '--help']]) {
    const { code, out, err } = await agentctl(...argv);
    t.equal(code, 0, argv.join(' '));
    t.match(out, /Examples:\n {2}agentctl /);
    t.equal(err, '');
  }
  for (const command of ['dump', 'status']) t.match((await agentctl('help', command)).out, /Exit codes:\n {2}0 /);
  t.match(await agentctl('--version'), { code: 0, out: /^\d+\.\d+\.\d+\n$/ });
  t.match(await agentctl('stauts'), { code: 1, out: '', err: /unknown command 'stauts'\n\(Did you mean status\?\)/ });
  t.match(await agentctl('status', '--outptu', 'json'), { code: 1, err: /Did you mean --output\?/ });
});

t.test('without an agent', async (t) => {
  const socket = '/does/not/exist.sock';
  t.match(await agentctl('status', '--socket', socket), {
    code: 1,
    out: '',
    err: /^agentctl: no agent is running here: /,
  });
  const { code, err } = await agentctl('dump', '--socket', socket);
  t.equal(code, 1);
  t.match(err, `there is no socket ${socket}`);
  for (const hint of ['--from kernel', '--manifests DIR --node NAME']) t.match(err, hint);
});

const OFFLINE = [AGENTCTL, 'dump', '--manifests', MANIFESTS, '--node', 'node-a'];

async function ended(args: readonly string[], read: boolean) {
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '' },
  });
  let [out, err] = ['', ''];
  child.stderr.on('data', (text) => {
    err += text;
  });
  if (read) {
    child.stdout.on('data', (text) => {
      out += text;
    });
  } else child.stdout.destroy();
  const [code] = await once(child, 'close');
  return { code, out, err };
}

t.test('a reader that leaves ends it silently', async (t) => {
  t.same(await ended(OFFLINE, false), { code: 0, out: '', err: '' });
});

t.test('everything gets into a pipe, without colours', async (t) => {
  const here = await agentctl(...OFFLINE.slice(1), '--service', 'shop/web');
  t.same(await ended([...OFFLINE, '--service', 'shop/web'], true), { code: 0, out: here.out, err: '' });
});
