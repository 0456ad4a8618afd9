// The image's file system holds all that the agent needs: it starts from there by the name kube-proxy, with the
// configuration kubeadm writes, read-only and with the capabilities of daemonset.yaml, and connections get through.
// Without a container engine: assembled from this machine's Debian, or KUBEPLUMB_IMAGE names one assembled before.
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { asContainer, containerMissing } from '../support/container.ts';
import { rawNode, rawService, rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { NODE_IPS } from '../support/network.ts';
import { NODE_NAME, RunningAgent } from '../support/running-agent.ts';
import { podIp, startTestNode, type TestNode } from '../support/test-node.ts';
import { scaled } from '../support/time-scale.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SERVICE = '10.96.0.80';
const MEBIBYTE = 2 ** 20;
/** Uncompressed. A budget: growth should be noticed. */
const LARGEST = 140 * MEBIBYTE;

function missingHere(): string | null {
  if (process.env.KUBEPLUMB_IMAGE) return null;
  const lacking = ['/usr/sbin/xtables-legacy-multi', '/usr/bin/dpkg-query'].filter((path) => !existsSync(path));
  return lacking.length > 0 ? `assembles from Debian with its package iptables; no ${lacking.join(', ')}` : null;
}

const skip = (await namespacesMissing()) ?? containerMissing() ?? missingHere() ?? false;
t.setTimeout(scaled(240_000));

function run(program: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(program, args, { cwd: ROOT, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: exit code ${status}: ${stderr}`);
}

function assemble(): string {
  const { KUBEPLUMB_IMAGE } = process.env;
  if (KUBEPLUMB_IMAGE) return KUBEPLUMB_IMAGE;
  const folder = mkdtempSync(join(tmpdir(), 'kubeplumb-image-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  run(process.execPath, 'scripts/build.mjs');
  run('deploy/image/app', ROOT, folder);
  run('deploy/image/system', folder);
  return folder;
}

const image = skip ? '' : assemble();

/** kubeadm's, with what this test's namespaces cannot have: conntrack sizes are the machine's. */
const config = (mode: string): string => `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.128.0.0/9
configSyncPeriod: 0s
conntrack: { maxPerCore: 0, min: null, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null }
detectLocal: { bridgeInterface: "", interfaceNamePrefix: "" }
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables: { localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s }
metricsBindAddress: ""
mode: "${mode}"
nodePortAddresses: null
oomScoreAdj: 0
portRange: ""
`;

/** A copy of the image for one test, by hard links, with a configuration; the folder of the pod's volumes. */
function prepare(t: Test, mode: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'kubeplumb-rootfs-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  // Hard links where both are on one file system.
  const link = spawnSync('cp', ['-al', `${image}/.`, folder]);
  if (link.status !== 0) run('cp', '-a', `${image}/.`, folder);
  const pod = join(folder, 'var/lib/kube-proxy');
  mkdirSync(pod, { recursive: true });
  writeFileSync(join(pod, 'config.conf'), config(mode));
  const objects = [
    { ...rawNode(NODE_NAME), status: { addresses: [{ type: 'InternalIP', address: NODE_IPS[0] }] } },
    rawService('web', {
      clusterIP: SERVICE,
      clusterIPs: [SERVICE],
      ports: [{ name: 'http', protocol: 'TCP', port: 80 }],
    }),
    rawSlice('web-1', 'web', [podIp(1), podIp(2)]),
  ];
  writeFileSync(join(pod, 'objects.json'), JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
  return folder;
}

const NODE_OPTIONS = '--max-old-space-size=512';

function start(node: TestNode, root: string, capabilities: readonly string[] | 'all', init = false): RunningAgent {
  const pod = '/var/lib/kube-proxy';
  const agent = new RunningAgent({
    net: node.net,
    folder: '/run/kubeplumb',
    manifests: `${pod}/objects.json`,
    // What runs tests puts options of its own into the environment of each child: modules that the image lacks.
    command: [
      'env',
      `NODE_OPTIONS=${NODE_OPTIONS}`,
      ...asContainer({ capabilities, root }),
      '/usr/local/bin/kube-proxy',
    ],
    flags: [`--config=${pod}/config.conf`, ...(init ? ['--init-only'] : [])],
    // As a container runtime: only what the image says.
    env: { PATH: process.env.PATH ?? '', NODE_EXTRA_CA_CERTS: '' },
  });
  node.agents.push(agent);
  return agent;
}

const text = ({ lines }: RunningAgent): string => lines.map(({ msg }) => msg).join('\n');

for (const mode of ['nftables', 'iptables', 'ipvs']) {
  const noIpvs = mode === 'ipvs' && !existsSync('/proc/net/ip_vs') && 'this kernel has no IPVS (module ip_vs)';
  t.test(`mode ${mode} from the image`, { skip: skip || noIpvs }, async (t) => {
    const node = await startTestNode(t);
    const root = prepare(t, mode);
    const init = start(node, root, 'all', true);
    t.equal(await init.ended, 0, text(init));
    const agent = start(node, root, ['net_admin', 'net_raw']);
    await agent.ready();
    const answer = await node.client.dial({ proto: 'TCP', ip: SERVICE, port: 80 });
    t.equal(answer.outcome, 'answered');
    t.strictSame(await agent.health(), { healthz: 200, livez: 200 });

    // As `kubectl exec` does.
    const enter = ['nsenter', `--target=${agent.pid}`, '--mount', '--net', '--root', '--wd=/'];
    const ctl = (...args: string[]): string =>
      node.net.exec('node', ['env', `NODE_OPTIONS=${NODE_OPTIONS}`, ...enter, '/usr/local/bin/agentctl', ...args]);
    t.match(ctl('status'), /healthy/);
    t.match(ctl('dump', '--service', 'shop/web'), new RegExp(podIp(1)));
    t.equal(await agent.stop(), 0);
    t.notMatch(text(agent), /EROFS|read-only/i);
  });
}

t.test('nothing is in it that need not be', { skip }, async (t) => {
  const bytes = Number(spawnSync('du', ['-sb', image], { encoding: 'utf8' }).stdout.split('\t')[0]);
  t.comment(`${(bytes / MEBIBYTE).toFixed(1)} MiB`);
  t.ok(bytes < LARGEST, `${bytes} bytes`);
  t.strictSame(readdirSync(join(image, 'usr/bin')), ['env'], 'no shell');
  t.strictSame(readdirSync(join(image, 'usr/local/bin')).sort(), ['agentctl', 'kube-proxy', 'kubeplumb', 'node']);
  const modules = readdirSync(join(image, 'usr/lib/kubeplumb/node_modules')).sort();
  t.strictSame(modules, ['@yuuang', 'ffi-rs', 'netlink', 'node-gyp-build']);
  const setuid = spawnSync('find', [image, '-perm', '/6000'], { encoding: 'utf8' }).stdout;
  t.equal(setuid, '');
});

t.test('Debian’s packages are named, for scanners', { skip }, async (t) => {
  const folder = join(image, 'var/lib/dpkg/status.d');
  const names = readdirSync(folder);
  for (const name of ['libc6', 'libstdc++6', 'iptables', 'libxtables12']) t.ok(names.includes(name), name);
  for (const name of names) {
    t.match(readFileSync(join(folder, name), 'utf8'), new RegExp(`^Package: ${name.replaceAll('+', '\\+')}\\n`));
    t.ok(statSync(join(image, 'usr/share/doc', name, 'copyright')).size > 0);
  }
});
