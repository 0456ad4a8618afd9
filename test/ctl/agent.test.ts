// agentctl and a real agent, which programs a network namespace from manifests.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { AGENTCTL, agentctl, type CtlResult, MANIFESTS } from '../support/agentctl.ts';
import {
  createNamespaces,
  endAtExit,
  hasEnded,
  ipBatch,
  namespacesMissing,
  removeNamespaces,
  within,
} from '../support/namespaces.ts';
import { KERNEL_AS_IT_IS } from '../support/running-agent.ts';

const MAIN = join(AGENTCTL, '../main.ts');
const OFFLINE = ['--manifests', MANIFESTS, '--node', 'node-a'];

const missing = await namespacesMissing(['ip']);
if (missing !== null) t.test('agentctl and an agent', { skip: missing }, async () => {});
else {
  const folder = mkdtempSync(join(tmpdir(), 'agentctl-'));
  const socket = join(folder, 'agent.sock');
  createNamespaces(['node']);
  t.teardown(() => {
    removeNamespaces(['node']);
    rmSync(folder, { recursive: true, force: true });
  });
  ipBatch(['link set lo up', 'addr add 192.0.2.11/32 dev lo', 'addr add fd00:192::11/128 dev lo nodad'], 'node');

  /** What the program says in the node's namespace. */
  const inNode = (...args: readonly string[]): CtlResult => {
    const { status, stdout, stderr } = within('node', () =>
      spawnSync(process.execPath, [AGENTCTL, ...args], { encoding: 'utf8' }),
    );
    return { code: status ?? -1, out: stdout, err: stderr };
  };

  let agent: ChildProcess;

  t.test('before the agent runs', async (t) => {
    t.match(inNode('dump', '--from', 'kernel'), { code: 1, out: '', err: 'the kernel holds no rules of kubeplumb' });
  });

  t.test('the agent starts', async (t) => {
    const args = [
      MAIN,
      '--proxy-mode=nftables',
      '--hostname-override=node-a',
      `--manifests=${MANIFESTS}`,
      ...KERNEL_AS_IT_IS,
    ];
    agent = within('node', () =>
      spawn(process.execPath, [...args, `--socket=${socket}`], { stdio: ['ignore', 'ignore', 'pipe'] }),
    );
    endAtExit(agent.pid!);
    agent.once('exit', () => hasEnded(agent.pid!));
    const said: string[] = [];
    for await (const line of createInterface({ input: agent.stderr! })) {
      said.push(line);
      if (line.includes('rules are in place')) break;
    }
    agent.stderr!.resume();
    t.match(said.at(-1), 'rules are in place', said.join('\n'));
  });

  t.test('status', async (t) => {
    const { code, out } = await agentctl('status', '--socket', socket);
    t.equal(code, 0);
    t.match(out, /^kubeplumb \S+, mode nftables, node node-a \(zone eu-1a\): healthy\n/);
    for (const problem of [
      /Service shop\/broken +spec\.clusterIP +"300\.1\.1\.1" is no IP address/,
      /EndpointSlice shop\/web-1 +endpoints\[5\]\.addresses +127\.0\.0\.1 is loopback/,
      /Service shop\/cart +spec\.externalIPs +203\.0\.113\.7 80\/TCP of shop\/cart:http belongs to shop\/web:http/,
    ])
      t.match(out, problem);
    const status = JSON.parse((await agentctl('status', '--socket', socket, '--output', 'json')).out);
    t.match(status, {
      pid: agent.pid,
      families: ['IPv4', 'IPv6'],
      sync: { syncs: 1, failures: 0, refused: { length: 0 } },
      counts: { services: 4, servicePorts: 5, frontends: 11, endpoints: 9 },
      settings: {
        families: { IPv4: { nodePortAddresses: ['192.0.2.11'] }, IPv6: { nodePortAddresses: ['fd00:192::11'] } },
      },
    });
    t.equal(status.problems.length, 3);
    t.equal(status.watches.length, 4);
  });

  t.test('/healthz tells what is degraded', async (t) => {
    const script = "fetch('http://127.0.0.1:10256/healthz').then((r) => r.text()).then(console.log)";
    const { stdout } = within('node', () => spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' }));
    t.match(JSON.parse(stdout), { healthy: true, nodeEligible: true, refusedServices: 0, conditions: { length: 0 } });
  });

  t.test('agent, kernel and manifests agree', async (t) => {
    for (const service of ['shop/web', 'shop/cart', 'kube-system/dns', null]) {
      const selected = service === null ? [] : ['--service', service];
      const json = [...selected, '--output', 'json'];
      const manifests = JSON.parse((await agentctl('dump', ...OFFLINE, ...json)).out);
      const running = JSON.parse((await agentctl('dump', '--socket', socket, ...json)).out);
      const kernel = JSON.parse(inNode('dump', '--from', 'kernel', '--socket', socket, ...json).out);
      t.ok(manifests.rules.length > 10, `${service ?? 'everything'}: ${manifests.rules.length} lines`);
      t.same([manifests.source, running.source, kernel.source], ['manifests', 'agent', 'kernel']);
      t.same(running.services, manifests.services, 'explanations');
      t.equal(running.rules.join('\n'), manifests.rules.join('\n'), 'agent and manifests');
      t.equal(kernel.rules.join('\n'), manifests.rules.join('\n'), 'kernel and manifests');
    }
  });

  t.test('a Service that is not there', async (t) => {
    const { code, err } = await agentctl('dump', '--socket', socket, '--service', 'shop/wbe');
    t.equal(code, 1);
    t.equal(err, 'agentctl: this node handles no Service shop/wbe\nDid you mean shop/web?\n');
    const kernel = inNode('dump', '--from', 'kernel', '--service', 'shop/wbe');
    t.match(kernel, { code: 1, err: 'the kernel holds no rules of a Service shop/wbe' });
  });

  t.test('after the agent has stopped', async (t) => {
    const ended = once(agent, 'exit');
    agent.kill('SIGTERM');
    t.same(await ended, [0, null]);
    t.equal(existsSync(socket), false);
    t.equal((await agentctl('status', '--socket', socket)).code, 1);
    const kernel = inNode('dump', '--from', 'kernel', '--socket', socket, '--service', 'shop/web');
    t.equal(kernel.code, 0);
    t.equal(kernel.out, (await agentctl('dump', ...OFFLINE, '--service', 'shop/web', '--output', 'rules')).out);
  });
}
