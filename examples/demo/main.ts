// The demo: a small shop in private network namespaces, the real agent on its node, real connections, and a change.
// Exit codes: 0 all as expected, 1 something was not, 2 this machine cannot run it.
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { counted, styleFor, took } from '../../agent/ctl/terminal.ts';
import { inUserNamespace, namespacesMissing } from '../../test/support/namespaces.ts';
import { createNetwork, type Network, NODE_IPS } from '../../test/support/network.ts';
import { frontendRows, isGood, type Judged, judge, OUTSIDE, type Row, table, tour } from './connections.ts';
import { DemoAgent } from './demo-agent.ts';
import { blocks, changedLines, explanation, indented } from './excerpt.ts';
import { Progress } from './progress.ts';
import { NODE_NAME, Shop, withTerminating } from './shop.ts';

const SHOP = fileURLToPath(new URL('../shop', import.meta.url));
const IGNORED = ['shop/db', 'shop/payments'];
const LEAVING = 'frontend-b';
const SIGNAL_MS = 100;

const style = styleFor(process.stdout, process.env);
const progress = new Progress({
  write: (text) => process.stdout.write(text),
  style,
  nowMs: () => performance.now(),
});

/** What a run holds, to be given back whatever happens. */
interface Stage {
  readonly shop: Shop;
  readonly net: Network;
  readonly agent: DemoAgent;
  /** The copy of the manifests that the agent watches. */
  readonly manifests: string;
}

async function buildNetwork(shop: Shop): Promise<Network> {
  return progress.step(
    'network namespaces: a node, its pods, another node’s pods, a customer outside',
    async () => {
      const net = await createNetwork({ pods: shop.pods, clients: [OUTSIDE] });
      const servers = shop.pods.flatMap(({ name, servers }) => servers.map((server) => ({ name, server })));
      await Promise.all(servers.map(({ name, server }) => net.host(name).call('listen', { ...server, closes: true })));
      return net;
    },
    () => `${counted(shop.pods.length, 'pod')}`,
  );
}

async function connect({ net }: Stage, rows: readonly Row[]): Promise<Judged[]> {
  const addresses = (host: string): readonly string[] => net.host(host).ips;
  const judged = await progress.step(
    'connections, one after the other',
    async () => {
      const results: Judged[] = [];
      for (const row of rows) {
        const { proto, ip, port } = row.to;
        const attempts = await net.host(row.from).call('connect', { proto, ip, port, count: row.times });
        results.push(judge(row, attempts, addresses(row.from)));
      }
      return results;
    },
    (results) => `${results.reduce((sum, { attempts }) => sum + attempts.length, 0)} done`,
  );
  process.stdout.write(`\n${table(judged, addresses, style)}`);
  progress.text(style('dim', '  own: the address the client has; node: masqueraded by the node, or the node itself'));
  return judged;
}

/** Edits the manifest of the frontend and waits until the agent has told the kernel. */
async function letPodGo({ agent, manifests }: Stage): Promise<void> {
  const file = join(manifests, 'frontend.yaml');
  const before = readFileSync(file, 'utf8');
  const after = withTerminating(before, LEAVING);
  for (const line of changedLines(before, after))
    progress.text(`  ${style(line.startsWith('+') ? 'green' : 'red', line)}`);
  const sent = (await agent.status())?.sync?.counts.transactions ?? 0;
  const { ackMs, syncMs } = await progress.step('frontend.yaml written; the agent watches it', async () => {
    const writtenMs = Date.now();
    writeFileSync(file, after);
    const { sync } = await agent.until('noticed the change', (s) => (s.sync?.counts.transactions ?? 0) > sent);
    return { ackMs: (sync?.lastSyncMs ?? 0) - writtenMs, syncMs: sync?.lastDurationMs ?? 0 };
  });
  progress.text(
    `  The kernel had acknowledged the change ${took(ackMs)} after the file was written: 100 ms let it settle,`,
  );
  progress.text(`  the sync itself took ${took(syncMs)}.`);
}

/** What a load balancer asks before it sends traffic to a node. */
function askHealthCheckPort({ net, shop }: Stage): string {
  const url = `http://${NODE_IPS[0]}:${shop.healthCheckNodePort('shop/checkout')}/`;
  const script = `const r = await fetch(${JSON.stringify(url)}); console.log(r.status, (await r.json()).localEndpoints)`;
  const [status, local] = net
    .exec(OUTSIDE.name, [process.execPath, '--input-type=module', '-e', script])
    .trim()
    .split(' ');
  if (status !== '200' || local !== '1') throw new Error(`${url} answers ${status} with ${local} local endpoints`);
  return `port ${new URL(url).port} says: 1 local endpoint`;
}

async function namesOfIgnored({ agent, shop }: Stage): Promise<string> {
  const handled = await agent.services();
  const wrong = shop.services.filter((service) => handled.includes(service) === IGNORED.includes(service));
  if (wrong.length > 0)
    throw new Error(`the agent handles ${handled.join(', ')}: not as expected for ${wrong.join(', ')}`);
  return `${handled.length} Services`;
}

function show(command: string, output: string): void {
  progress.text(`\n  ${style('bold', `$ ${command}`)}\n${indented(output)}`);
}

/** The three ways to look at what the agent does. */
function look({ agent, net }: Stage): void {
  const dump = agent.ctl('dump', '--service', 'shop/frontend', '--family', 'IPv4');
  show('agentctl dump --service shop/frontend --family IPv4', explanation(dump));
  const wanted = ['map services', 'map nodeports', 'map endpoints', 'chain np-mq-1'];
  const listing = net.exec('node', ['nft', 'list', 'table', 'ip', 'kubeplumb']);
  show(`nft list table ip kubeplumb   (only ${wanted.join(', ')})`, blocks(listing, wanted));
  show('agentctl status', agent.ctl('status'));
}

async function play(stage: Stage): Promise<Judged[]> {
  const { agent, shop } = stage;
  await progress.step(
    'kubeplumb on the node, reading examples/shop',
    () => agent.until('put the rules in place', ({ verdict }) => verdict === 'healthy'),
    ({ sync }) => `rules are in the kernel; the first sync took ${took(sync?.firstDurationMs ?? 0)}`,
  );
  await progress.step(
    'no rules for shop/db (headless) and shop/payments (ExternalName)',
    () => namesOfIgnored(stage),
    (n) => `right, ${n} have some`,
  );
  await progress.step(
    'health check node port of shop/checkout, for load balancers',
    () => askHealthCheckPort(stage),
    (told) => told,
  );
  progress.heading('Who answers, and which source address does it see?');
  const judged = await connect(stage, tour(shop));
  progress.heading(`A pod goes: ${LEAVING} begins to shut down`);
  await letPodGo(stage);
  judged.push(...(await connect(stage, frontendRows(shop, ['frontend-a'], 8))));
  progress.heading('What the agent says, and what is in the kernel');
  look(stage);
  return judged;
}

/** Removes the folder at the latest when the process ends. */
function temporaryFolder(): string {
  // As an ordinary user, what is below /run is out of sight here.
  const folder = mkdtempSync(join(existsSync(tmpdir()) ? tmpdir() : '/tmp', 'kubeplumb-demo-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function run(): Promise<Judged[]> {
  const shop = new Shop(SHOP);
  const net = await buildNetwork(shop);
  const folder = temporaryFolder();
  const manifests = join(folder, 'shop');
  cpSync(SHOP, manifests, { recursive: true });
  const agent = new DemoAgent(net, { manifests, folder });
  try {
    const judged = await play({ shop, net, agent, manifests });
    progress.heading('The end');
    await progress.step('agent, pods and namespaces removed', async () => {
      await agent.stop();
      await net.close();
    });
    return judged;
  } catch (error) {
    for (const line of agent.log) process.stderr.write(`agent: ${line}\n`);
    throw error;
  }
}

function sumUp(judged: readonly Judged[], beganMs: number): number {
  const wanted = judged.reduce((sum, { row }) => sum + row.times, 0);
  const good = judged.reduce((sum, result) => sum + result.good, 0);
  const ctl = 'node_modules/.bin/node agent/agentctl.ts';
  progress.heading('Next');
  progress.text(`  examples/README.md     what the manifests show, and how to change them`);
  progress.text(`  ${ctl} dump --manifests examples/shop --node ${NODE_NAME} \\
    --config examples/config.yaml --service shop/checkout`);
  progress.text('                         explains another Service, without agent, kernel and root');
  const seconds = ((performance.now() - beganMs) / 1000).toFixed(1);
  const all = judged.every(isGood);
  const line = `Demo ${all ? 'finished' : 'FAILED'}: ${good} of ${wanted} connections as expected, in ${seconds} s. Nothing is left behind.`;
  progress.text(`\n${style(all ? 'green' : 'red', line)}`);
  return all ? 0 : 1;
}

process.stdout.on('error', () => process.exit(1)); // the reader of a pipe has gone
const missing = await namespacesMissing();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  // Ctrl-C arrives more than once, straight and through parents; none of them must cut the cleaning up short.
  process.on(signal, () => process.exit(128 + constants.signals[signal]));
}
if (missing !== null) {
  process.stderr.write(`demo: cannot run on this machine: it ${missing}
Run it as root (in a container: with the capabilities NET_ADMIN and SYS_ADMIN), or as an ordinary user where user
namespaces are permitted; some distributions have sysctls for that, such as kernel.apparmor_restrict_unprivileged_userns.
`);
  process.exit(2);
}
process.once('exit', (code) => {
  // By a signal; what was created is removed at exit.
  if (code > 128) process.stderr.write('\ndemo: interrupted; nothing is left behind\n');
});
const beganMs = performance.now();
progress.text(style('bold', 'kubeplumb demo: a small shop on one node; all of it in private network namespaces'));
if (inUserNamespace()) progress.text('  (inside a user namespace of its own: no root needed)');
try {
  process.exit(sumUp(await run(), beganMs));
} catch (error) {
  // Ctrl-C ends the pods' processes as well: its handler comes first.
  await delay(SIGNAL_MS);
  process.stderr.write(`demo: ${error instanceof Error ? error.message : error}\n`);
  process.exit(1);
}
