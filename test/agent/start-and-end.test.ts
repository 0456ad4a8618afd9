// Starts that refuse, and reasons to end: kernel settings, the configuration file, listeners, pod CIDRs.
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { rawNode } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { NODE_NAME, RunningAgent } from '../support/running-agent.ts';
import { startTestNode, type TestNode } from '../support/test-node.ts';

const skip = (await namespacesMissing()) ?? false;
const MAX = 'net.netfilter.nf_conntrack_max';

const fileOf = (name: string): string => `/proc/sys/${name.replaceAll('.', '/')}`;
const sysctl = (node: TestNode, name: string): string => node.net.exec('node', ['cat', fileOf(name)]).trim();
const lastLine = (agent: RunningAgent): string => agent.lines.at(-1)?.msg ?? '';

t.test('the ConfigMap of kubeadm, but for its paths and what a namespace cannot set', { skip }, async (t) => {
  const node = await startTestNode(t);
  const read = (name: string): string =>
    readFileSync(join(import.meta.dirname, '../fixtures/config/kubeadm', name), 'utf8');
  const dir = t.testdir({ token: 'secret' });
  const kubeconfig = read('kubeconfig.conf')
    .replace('https://192.0.2.10:6443', node.url)
    .replace(/ *certificate-authority: .*\n/, '')
    .replace(/tokenFile: .*/, `tokenFile: ${dir}/token`);
  const config = read('config.conf')
    .replace('/var/lib/kube-proxy/', `${dir}/`)
    .replace('maxPerCore: null', 'maxPerCore: 0')
    .replace(/(tcp\w+Timeout): null/g, '$1: 0s');
  writeFileSync(join(dir, 'kubeconfig.conf'), kubeconfig);
  writeFileSync(join(dir, 'config.conf'), config);
  const agent = new RunningAgent({ net: node.net, flags: [`--config=${join(dir, 'config.conf')}`] });
  node.agents.push(agent);
  await agent.ready();
  t.equal(node.server.requests[0]?.headers.authorization, 'Bearer secret');
  t.match(node.net.exec('node', ['iptables-save', '-t', 'nat']), 'KUBE-SERVICES');
});

t.test('a kernel setting that cannot be made ends the agent, and says what to do', { skip }, async (t) => {
  const node = await startTestNode(t);
  const now = Number(sysctl(node, MAX));
  const agent = node.agent({ flags: ['--conntrack-max-per-core=1', `--conntrack-min=${now + 4}`] });
  t.equal(await agent.ended, 1);
  t.match(lastLine(agent), `kubeplumb: cannot set ${MAX} to ${now + 4} (it is ${now}), which conntrack.maxPerCore`);
  t.match(lastLine(agent), /--init-only .* or leave it alone with conntrack\.maxPerCore: 0$/);
});

t.test('the configuration file is written', { skip }, async (t) => {
  const node = await startTestNode(t);
  const settings = {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode: 'nftables',
    healthzBindAddress: '127.0.0.1:10256',
    conntrack: { maxPerCore: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
  };
  const config = join(t.testdir({ config: JSON.stringify(settings) }), 'config');
  const agent = node.agent({ flags: [`--config=${config}`] });
  await agent.ready();
  appendFileSync(config, '\n');
  t.equal(await agent.ended, 1);
  t.equal(lastLine(agent), `kubeplumb: the configuration file ${config} was written`);
  t.match(node.nft('list', 'tables'), 'kubeplumb', 'the rules stay');
});

t.test('--bind-address-hard-fail', { skip }, async (t) => {
  const node = await startTestNode(t);
  const nobody = '--healthz-bind-address=203.0.113.77:10256';
  const agent = node.agent({ flags: [nobody, '--bind-address-hard-fail'] });
  t.equal(await agent.ended, 1);
  t.match(lastLine(agent), /^kubeplumb: the health server cannot listen: .*EADDRNOTAVAIL/);
});

t.test('other pod CIDRs in mode NodeCIDR', { skip }, async (t) => {
  const node = await startTestNode(t);
  const own = (podCIDRs: readonly string[]) => ({
    ...rawNode(NODE_NAME),
    spec: { podCIDRs },
    status: { addresses: [{ type: 'InternalIP', address: '172.18.0.2' }] },
  });
  node.server.store.put(own(['10.128.1.0/24']));
  const agent = node.agent({ flags: ['--detect-local-mode=NodeCIDR'] });
  await agent.ready();
  node.server.store.put(own([]));
  t.equal(await agent.ended, 1);
  t.equal(lastLine(agent), 'kubeplumb: the pod CIDRs of this Node changed from 10.128.1.0/24 to none');
});
