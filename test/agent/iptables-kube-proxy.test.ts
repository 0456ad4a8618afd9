// The agent takes over from a real kube-proxy, running or killed, in both of its modes: what is right is not sent again,
// and no connection fails.
import t from 'tap';
import type { Variant } from '../../backends/iptables/run-tool.ts';
import { FAMILIES, type Family } from '../../native/ip.ts';
import { clusterObjects } from '../support/cluster.ts';
import { inVariant, NodeTools, pathOf } from '../support/iptables-node.ts';
import { rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { CLUSTER_CIDR, NODE_NAME } from '../support/running-agent.ts';
import { IP, NODE_PORT, outcome, startAgent, underLoad, web } from '../support/takeover.ts';
import { podIp, startTestNode, until } from '../support/test-node.ts';

const missing = await namespacesMissing();
const { KUBE_PROXY } = process.env;
const withoutProgram = KUBE_PROXY === undefined ? 'KUBE_PROXY names no kube-proxy' : false;

type Mode = 'iptables' | 'nftables';
const CASES: readonly [proxy: Mode, agent: Mode, variant: Variant, running: boolean][] = [
  ['iptables', 'iptables', 'nft', true],
  ['iptables', 'iptables', 'legacy', true],
  ['iptables', 'nftables', 'nft', false],
  ['nftables', 'iptables', 'nft', false],
];

for (const [proxyMode, mode, variant, running] of CASES) {
  const name = `a kube-proxy that ${running ? 'runs' : 'was killed'}, ${proxyMode} (${variant}), to ${mode}`;
  t.test(name, { skip: missing ?? withoutProgram }, async (t) => {
    const objects = [...web, ...clusterObjects({ services: 30, endpointsPerService: 3 })];
    const node = await startTestNode(t, { objects });
    const tools = new NodeTools(node.net, variant);
    const proxy = node.net.spawn(
      'node',
      [
        KUBE_PROXY!,
        `--proxy-mode=${proxyMode}`,
        `--master=${node.url}`,
        '--kube-api-content-type=application/json',
        `--hostname-override=${NODE_NAME}`,
        `--cluster-cidr=${CLUSTER_CIDR}`,
        '--conntrack-max-per-core=0',
        '--conntrack-tcp-timeout-established=0',
        '--conntrack-tcp-timeout-close-wait=0',
        '--healthz-bind-address=127.0.0.1:10266',
      ],
      { stdio: 'ignore', env: { ...process.env, PATH: pathOf(variant) } },
    );
    const ended = new Promise((resolve) => proxy.once('exit', resolve));
    const answers = async (ip: string, port: number): Promise<boolean> =>
      (await outcome(node, ip, port)) === 'answered';
    await until('kube-proxy serves', async () => (await answers(IP, 80)) && (await answers('172.18.0.2', NODE_PORT)));
    if (proxyMode === 'iptables') {
      const complete = (family: Family): boolean => tools.saved(family).some((line) => line.endsWith('--random-fully'));
      await until('both families are written', () => FAMILIES.every(complete));
    }
    if (!running) {
      proxy.kill('SIGKILL');
      await ended;
    }
    const options = mode === 'iptables' ? inVariant(variant) : {};
    const agent = await underLoad(t, node, () => startAgent(node, options));
    if (mode === proxyMode) {
      t.match(agent.all('rules are in place')[0], { added: 0, deleted: 0, objects: 0 }, 'no rule is sent');
    }
    if (running) {
      // Both apply the same change.
      const { version } = node.server.store.put(rawSlice('web-1', 'web', [podIp(2), podIp(3)]));
      await underLoad(t, node, () => agent.acknowledged(version));
      proxy.kill('SIGKILL');
      await ended;
    }
    if (mode !== proxyMode) {
      await until('its rules are gone', () =>
        proxyMode === 'nftables'
          ? !node.nft('list', 'tables').includes('kube-proxy')
          : !tools.saved('IPv4').join('\n').includes('KUBE-SERVICES'),
      );
    }
    t.equal(await outcome(node, IP), 'answered');
    t.equal(await outcome(node, '10.96.0.81'), 'refused');
    t.match((await agent.status()).verdict, 'healthy');
  });
}
