// The ways back of docs/migration.md, to a real kube-proxy: by mode iptables, or in mode nftables with our tables deleted
// at the end. No connection fails, nothing of ours is left, and kube-proxy follows the next change.
import type { ChildProcess } from 'node:child_process';
import t from 'tap';
import { inVariant, pathOf } from '../support/iptables-node.ts';
import { rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { findPeers } from '../support/peers.ts';
import { CLUSTER_CIDR, NODE_NAME } from '../support/running-agent.ts';
import { IP, outcome, startAgent, underLoad, web } from '../support/takeover.ts';
import { podIp, startTestNode, type TestNode, until } from '../support/test-node.ts';
import { scaled } from '../support/time-scale.ts';

const peers = findPeers(['kube-proxy']);
const skip = (await namespacesMissing()) ?? (typeof peers === 'string' ? peers : false);
t.setTimeout(scaled(200_000));

function kubeProxy(node: TestNode, mode: string): ChildProcess {
  if (typeof peers === 'string') throw new Error(peers);
  const argv = [
    peers['kube-proxy'],
    `--proxy-mode=${mode}`,
    `--master=${node.url}`,
    '--kube-api-content-type=application/json',
    `--hostname-override=${NODE_NAME}`,
    `--cluster-cidr=${CLUSTER_CIDR}`,
    '--conntrack-max-per-core=0',
    '--conntrack-tcp-timeout-established=0',
    '--conntrack-tcp-timeout-close-wait=0',
    '--nodeport-addresses=172.18.0.0/16',
  ];
  return node.net.spawn('node', argv, { stdio: 'ignore', env: { ...process.env, PATH: pathOf('nft') } });
}

const METRICS = `const answer = await fetch('http://127.0.0.1:10249/metrics').catch(() => null);
console.log(await answer?.text())`;

/** Whether kube-proxy has synced once. */
function serves(node: TestNode, mode: string): boolean {
  const { stdout } = node.net.tryExec('node', [process.execPath, '--input-type=module', '--eval', METRICS]);
  const synced = /^kubeproxy_sync_proxy_rules_last_timestamp_seconds\{ip_family="IPv4"\} [1-9]/m.test(stdout);
  return synced && (mode === 'iptables' || node.nft('list', 'tables').includes('table ip kube-proxy'));
}

for (const mode of ['iptables', 'nftables']) {
  t.test(`from mode nftables to kube-proxy in mode ${mode}`, { skip }, async (t) => {
    const node = await startTestNode(t, { objects: web });
    const flags = ['--nodeport-addresses=172.18.0.0/16'];
    const first = await startAgent(node, { flags });
    await underLoad(t, node, async () => {
      t.equal(await first.stop(), 0);
      if (mode === 'iptables') {
        const second = await startAgent(node, { ...inVariant('nft'), flags });
        await until('our tables are gone', () => !node.nft('list', 'tables').includes('kubeplumb'));
        t.equal(await second.stop(), 0);
      }
      const proxy = kubeProxy(node, mode);
      t.teardown(() => proxy.kill('SIGKILL'));
      await until('kube-proxy serves', () => serves(node, mode), 30_000);
      if (mode === 'nftables') for (const family of ['ip', 'ip6']) node.nft('delete', 'table', family, 'kubeplumb');
    });
    t.notMatch(node.nft('list', 'tables'), /kubeplumb/);
    node.server.store.put(rawSlice('web-1', 'web', [podIp(3)]));
    const host = async (): Promise<unknown> => {
      const answer = await node.client.dial({ proto: 'TCP', ip: IP, port: 80 });
      return 'host' in answer ? answer.host : answer.outcome;
    };
    await until('kube-proxy follows a change', async () => {
      const seen = [await host(), await host(), await host(), await host()];
      return seen.every((name) => name === 'pod-3');
    });
    t.equal(await outcome(node, '10.96.0.81'), 'refused');
  });
}
