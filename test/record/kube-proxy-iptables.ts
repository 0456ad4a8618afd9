// Records what kube-proxy writes for the Services of test/fixtures/sixty-services.ts, in a network namespace of its own:
//
//   KUBE_PROXY=/path/to/kube-proxy node test/record/kube-proxy-iptables.ts
//
// Needs root and the programs of both iptables families (iptables-nft, iptables-legacy, …). Writes
// test/golden/iptables/RECORDING-TOOLS-FAMILY.txt: iptables-save without dates and counters.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  crowd,
  INTERFACES,
  NODE_NAME,
  node,
  RECORDINGS,
  type RecordingName,
  SERVICE_NAMES,
  sixtyServices,
} from '../fixtures/sixty-services.ts';
import { TestApiServer } from '../support/api-server.ts';
import {
  createNamespaces,
  endAtExit,
  hasEnded,
  ipBatch,
  namespacesMissing,
  removeNamespaces,
  within,
} from '../support/namespaces.ts';

const PROGRAMS = ['iptables', 'iptables-save', 'iptables-restore'].flatMap((name) => [name, `ip6${name.slice(2)}`]);
const WAIT_MS = 60_000;
const folder = new URL('../golden/iptables/', import.meta.url);

/** A folder where the programs' plain names are those of one family. */
function programsOf(tools: string): string {
  const path = mkdtempSync(join(tmpdir(), 'kubeplumb-'));
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];
  for (const name of PROGRAMS) {
    const variant = name.replace('tables', `tables-${tools}`);
    const found = folders.map((part) => join(part, variant)).find((file) => existsSync(file));
    if (found === undefined) throw new Error(`no program "${variant}"`);
    symlinkSync(realpathSync(found), join(path, name));
  }
  return path;
}

function save(programs: string, family: 'IPv4' | 'IPv6'): string {
  const program = join(programs, family === 'IPv4' ? 'iptables-save' : 'ip6tables-save');
  const { stdout, stderr, status } = within('node', () => spawnSync(program, { encoding: 'utf8', maxBuffer: 1 << 28 }));
  if (status !== 0) throw new Error(`${program}: ${stderr.trim()}`);
  return stdout.replace(/^#.*\n/gm, '').replace(/\[\d+:\d+\]/g, '[0:0]');
}

/** Without the Service `shop/crowd` and its chains. */
function withoutCrowd(text: string): string {
  const lines = text.split('\n');
  const chain = lines
    .find((line) => line.includes('shop/crowd'))
    ?.split(' ')
    .at(-1);
  const own = new Set([chain]);
  for (const line of lines) if (line.startsWith(`-A ${chain} `)) own.add(line.split(' ').at(-1));
  own.delete('KUBE-MARK-MASQ');
  return lines.filter((line) => !line.split(' ').some((word) => own.has(word.replace(/^:/, '')))).join('\n');
}

async function stopped(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await ended;
}

/** Waits until both families hold the last Service and do not change any more. */
async function settled(programs: string): Promise<Record<'IPv4' | 'IPv6', string>> {
  const deadline = performance.now() + WAIT_MS;
  let before = '';
  for (;;) {
    const texts = { IPv4: save(programs, 'IPv4'), IPv6: save(programs, 'IPv6') };
    const now = texts.IPv4 + texts.IPv6;
    if (texts.IPv4.includes('shop/ipv4-only') && texts.IPv6.includes('shop/ipv6-only') && now === before) return texts;
    before = now;
    if (performance.now() > deadline) throw new Error('kube-proxy never came to rest');
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

async function record(name: RecordingName, tools: string, kubeProxy: string): Promise<void> {
  const { crowded, config } = RECORDINGS[name];
  const programs = programsOf(tools);
  const server = new TestApiServer({ bookmarkEveryMs: 1000 });
  try {
    createNamespaces(['node']);
    const lines = INTERFACES.flatMap((device) => [
      ...(device.name === 'lo' ? [] : [`link add ${device.name} type veth peer name peer`]),
      `link set ${device.name} up`,
      ...device.addresses
        .filter((ip) => !/^(127|::1)/.test(ip))
        .map((ip) => `addr add ${ip} dev ${device.name}${ip.includes(':') ? ' nodad' : ''}`),
    ]);
    ipBatch(lines, 'node');
    server.store.load([node(), ...sixtyServices(), ...(crowded ? crowd() : [])]);
    const url = await within('node', () => server.start(0, { everywhere: true }));
    const kubeconfig = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster: { server: url } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: '' } }],
      'current-context': 'test',
    };
    writeFileSync(join(programs, 'kubeconfig'), JSON.stringify(kubeconfig));
    const file = {
      apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
      kind: 'KubeProxyConfiguration',
      mode: 'iptables',
      hostnameOverride: NODE_NAME,
      clientConnection: { kubeconfig: join(programs, 'kubeconfig'), contentType: 'application/json' },
      conntrack: { maxPerCore: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
      ...config,
    };
    writeFileSync(join(programs, 'config'), JSON.stringify(file));
    const child = within('node', () =>
      spawn(kubeProxy, [`--config=${join(programs, 'config')}`], {
        stdio: ['ignore', 'ignore', 'inherit'],
        env: { ...process.env, PATH: `${programs}:${process.env.PATH}` },
      }),
    );
    endAtExit(child.pid!);
    const texts = await settled(programs);
    await stopped(child);
    hasEnded(child.pid!);
    for (const [family, text] of Object.entries(texts)) {
      writeFileSync(new URL(`${name}-${tools}-${family}.txt`, folder), crowded ? withoutCrowd(text) : text);
    }
  } finally {
    await server.close();
    removeNamespaces(['node']);
    rmSync(programs, { recursive: true });
  }
}

const { KUBE_PROXY } = process.env;
if (KUBE_PROXY === undefined) throw new Error('KUBE_PROXY names no kube-proxy');
const missing = await namespacesMissing(['ip']);
if (missing !== null) throw new Error(missing);
mkdirSync(folder, { recursive: true });
console.log(`${SERVICE_NAMES.length} Services`);
for (const [name, { tools }] of Object.entries(RECORDINGS)) {
  for (const family of tools) {
    console.log(`${name}, iptables-${family}`);
    await record(name as RecordingName, family, KUBE_PROXY);
  }
}
