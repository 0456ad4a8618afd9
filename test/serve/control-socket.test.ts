import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { askAgent } from '../../agent/ctl/agent-client.ts';
import { type ControlRoute, ControlSocket, jsonAnswer } from '../../agent/serve/control-socket.ts';

const folder = mkdtempSync(join(tmpdir(), 'control-socket-'));
t.teardown(() => rmSync(folder, { recursive: true }));
let number = 0;

const text = (body: string | Iterable<string>): ReturnType<ControlRoute> => ({ status: 200, type: 'text/plain', body });

function setUp(
  t: { teardown(fn: () => void): void },
  { path = join(folder, String(++number), 'agent.sock'), routes = { '/who': () => text('me') } } = {} as {
    path?: string;
    routes?: Record<string, ControlRoute>;
  },
) {
  const warnings: string[] = [];
  const warn = (message: string, fields: { err?: unknown } = {}) => warnings.push(`${message}: ${fields.err}`);
  const socket = new ControlSocket({ path, routes, log: { error() {}, warn, info() {}, debug() {} } });
  t.teardown(() => socket.stop());
  return { socket, path, warnings };
}

const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8);

t.test('only the owner may use it; it goes at stop', async (t) => {
  const { socket, path, warnings } = setUp(t);
  t.equal(await socket.start(), true);
  t.equal(mode(path), '600');
  t.equal(mode(join(path, '..')), '700');
  t.same(await askAgent(path, '/who'), { status: 200, body: 'me' });
  socket.stop();
  t.equal(existsSync(path), false);
  t.same(warnings, []);
});

t.test('in a folder that is open to others it is closed to them all the same', async (t) => {
  const open = join(folder, 'open');
  mkdirSync(open);
  chmodSync(open, 0o777);
  const { socket, path } = setUp(t, { path: join(open, 'agent.sock') });
  const umask = process.umask();
  t.equal(await socket.start(), true);
  t.equal(mode(path), '600');
  t.equal(process.umask(), umask);
});

t.test('paths, methods and queries', async (t) => {
  const { socket, path } = setUp(t, {
    routes: {
      '/echo': (query) => jsonAnswer([...query]),
      '/bad': () => {
        throw new Error('out of order');
      },
    },
  });
  await socket.start();
  t.same(await askAgent(path, '/echo?service=shop%2Fweb'), { status: 200, body: '[["service","shop/web"]]\n' });
  for (const other of ['/', '/echo/', '/constructor', '/toString'])
    t.equal((await askAgent(path, other)).status, 404, other);
  t.same(await askAgent(path, '/bad'), { status: 500, body: '{"error":"Error: out of order"}\n' });
  const post = await new Promise<number | undefined>((resolve, reject) => {
    request({ socketPath: path, path: '/echo', method: 'POST' }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .on('error', reject)
      .end();
  });
  t.equal(post, 405);
});

t.test('parts are written in turns, and a body that fails is cut off', async (t) => {
  let turns = 0;
  function* parts(fail: boolean) {
    for (let i = 0; i < 100; i++) {
      const until = performance.now() + 2;
      while (performance.now() < until);
      yield String(i % 10).repeat(50_000);
      if (fail && i === 50) throw new Error('lost');
    }
  }
  const { socket, path, warnings } = setUp(t, {
    routes: { '/big': () => text(parts(false)), '/cut': () => text(parts(true)) },
  });
  await socket.start();
  const timer = setInterval(() => turns++, 1);
  const { body } = await askAgent(path, '/big');
  clearInterval(timer);
  t.equal(body.length, 5_000_000);
  t.ok(turns > 10, `other work had ${turns} turns`);
  await t.rejects(askAgent(path, '/cut'), { message: /cannot ask the agent/ });
  t.match(warnings, [/cannot answer: Error: lost/]);
});

t.test('a reader that leaves ends the body', async (t) => {
  let left = () => {};
  const ended = new Promise<void>((resolve) => {
    left = resolve;
  });
  function* endless() {
    try {
      for (;;) yield 'x'.repeat(100_000);
    } finally {
      left();
    }
  }
  const { socket, path } = setUp(t, { routes: { '/endless': () => text(endless()) } });
  await socket.start();
  request({ socketPath: path, path: '/endless' }, (response) => response.destroy())
    .on('error', () => {})
    .end();
  await ended;
  t.pass('it was told');
});

t.test('the socket of a dead agent is replaced', async (t) => {
  const { socket, path } = setUp(t);
  mkdirSync(join(path, '..'));
  const dead = createServer();
  await new Promise<void>((resolve) => {
    dead.listen(`${path}.old`, resolve);
  });
  linkSync(`${path}.old`, path); // closing removes the other name only
  await new Promise((resolve) => {
    dead.close(resolve);
  });
  t.ok(statSync(path).isSocket());
  t.equal(await socket.start(), true);
  t.equal((await askAgent(path, '/who')).body, 'me');
});

t.test('the socket of a living agent is left to it', async (t) => {
  const first = setUp(t);
  await first.socket.start();
  const second = setUp(t, { path: first.path, routes: { '/who': () => text('the second') } });
  t.equal(await second.socket.start(), false);
  t.match(second.warnings, [/no control socket: .*another agent that is running uses it/]);
  second.socket.stop();
  t.equal((await askAgent(first.path, '/who')).body, 'me');
});

t.test('a file that is no socket stays', async (t) => {
  const path = join(folder, 'file');
  writeFileSync(path, 'precious');
  const { socket, warnings } = setUp(t, { path });
  t.equal(await socket.start(), false);
  t.match(warnings, [/is no socket/]);
  socket.stop();
  t.equal(readFileSync(path, 'utf8'), 'precious');
});

t.test('a path that cannot be had is a warning', async (t) => {
  const paths = [join(folder, 'file', 'agent.sock'), join(folder, 'x'.repeat(150), 'agent.sock'), '/proc/agent.sock'];
  for (const path of paths) {
    const { socket, warnings } = setUp(t, { path });
    t.equal(await socket.start(), false, path);
    t.equal(warnings.length, 1);
    socket.stop();
  }
});
