// The agent starts on a node where kube-proxy ran: its table goes, and no connection is refused meanwhile.
import t, { type Test } from 'tap';
import type { ApiObject } from '../support/api-store.ts';
import { clusterObjects } from '../support/cluster.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { CLUSTER_CIDR, NODE_NAME } from '../support/running-agent.ts';
import { podIp, startTestNode, type TestNode, until } from '../support/test-node.ts';

const missing = await namespacesMissing();
const skip = missing ?? false;
/** A kube-proxy to take over from, besides a table written like one of its. */
const { KUBE_PROXY } = process.env;

const IP = '10.96.0.80';
const NODE_PORT = 30080;
const objects: ApiObject[] = [
  rawService('web', {
    type: 'NodePort',
    clusterIP: IP,
    clusterIPs: [IP],
    ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: NODE_PORT }],
  }),
  rawSlice('web-1', 'web', [podIp(1), { addresses: [podIp(2)], nodeName: NODE_NAME }]),
  rawService('empty', { clusterIP: '10.96.0.81', clusterIPs: ['10.96.0.81'] }),
  ...clusterObjects({ services: 300, endpointsPerService: 3 }),
];

/** One Service, in the shape kube-proxy gives its tables. */
const LIKE_KUBE_PROXY = `table ip kube-proxy {
  comment "rules for kube-proxy";
  set cluster-ips { type ipv4_addr; comment "Active ClusterIPs"; elements = { ${IP}, 10.96.0.81 }; }
  set nodeport-ips { type ipv4_addr; elements = { 172.18.0.2 }; }
  map service-ips {
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = { ${IP} . tcp . 80 : goto service-AAAA-shop/web/tcp/http }
  }
  map service-nodeports {
    type inet_proto . inet_service : verdict
    elements = { tcp . ${NODE_PORT} : goto external-AAAA-shop/web/tcp/http }
  }
  map no-endpoint-services {
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.0.81 . tcp . 80 : goto reject-chain }
  }
  chain mark-for-masquerade { meta mark set meta mark | 0x4000; }
  set hairpin-connections {
    type ipv4_addr . ipv4_addr . inet_proto . inet_service
    elements = { ${podIp(2)} . ${podIp(2)} . tcp . 8080 }
  }
  chain masquerading {
    meta mark & 0x4000 != 0 meta mark set meta mark ^ 0x4000 masquerade fully-random
    ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random
  }
  chain reject-chain { reject; }
  chain endpoint-A { meta l4proto tcp dnat to ${podIp(1)}:8080; }
  chain endpoint-B { meta l4proto tcp dnat to ${podIp(2)}:8080; }
  chain service-AAAA-shop/web/tcp/http {
    ip daddr ${IP} tcp dport 80 ip saddr != ${CLUSTER_CIDR} jump mark-for-masquerade
    numgen random mod 2 vmap { 0 : goto endpoint-A, 1 : goto endpoint-B }
  }
  chain external-AAAA-shop/web/tcp/http {
    jump mark-for-masquerade
    goto service-AAAA-shop/web/tcp/http
  }
  chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain cluster-ips-check {
    ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
    ip daddr 10.96.0.0/12 drop comment "Drop traffic to unallocated ClusterIPs"
  }
  chain nodeport-endpoints-check { }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
  chain filter-prerouting-pre-dnat { type filter hook prerouting priority dstnat - 10; }
  chain filter-input { type filter hook input priority filter; ct state new jump service-endpoints-check; }
  chain filter-forward {
    type filter hook forward priority filter;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
  chain filter-output {
    type filter hook output priority filter;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
}
`;

/** Takes over while a client, a pod and the node itself connect; checks that all of it worked. */
async function takeOver(t: Test, node: TestNode): Promise<void> {
  const targets = [
    { proto: 'TCP', ip: IP, port: 80 },
    { proto: 'TCP', ip: '172.18.0.2', port: NODE_PORT },
  ] as const;
  const hosts = ['client', 'pod-2', 'node'] as const;
  const loads: number[] = [];
  for (const name of hosts) {
    const load = { targets: name === 'client' ? targets : targets.slice(0, 1), width: 64, perSecond: 200 };
    loads.push((await node.net.host(name).call('startLoad', load)).load);
  }
  await new Promise((resolve) => setTimeout(resolve, 300));
  const agent = node.agent();
  await agent.ready();
  t.equal(node.nft('list', 'tables'), 'table ip kubeplumb\ntable ip6 kubeplumb\n', 'the old table is gone');
  await new Promise((resolve) => setTimeout(resolve, 500));
  for (const [i, name] of hosts.entries()) {
    const { attempts, answered, results } = await node.net.host(name).call('stopLoad', { load: loads[i]! });
    t.ok(attempts > 100);
    t.equal(answered, attempts, `${name}: no connection failed: ${JSON.stringify(results)}`);
  }
  t.match(await agent.status(), { verdict: 'healthy', repairs: { count: 0 }, conditions: { length: 0 } });
}

t.test('a table as kube-proxy leaves it', { skip }, async (t) => {
  const node = await startTestNode(t, { objects });
  node.net.exec('node', ['nft', '-f', '-'], LIKE_KUBE_PROXY);
  t.equal((await node.client.dial({ proto: 'TCP', ip: IP, port: 80 })).outcome, 'answered', 'it works');
  t.equal((await node.client.dial({ proto: 'TCP', ip: '10.96.0.81', port: 80 })).outcome, 'refused');
  await takeOver(t, node);
  t.equal((await node.client.dial({ proto: 'TCP', ip: '10.96.0.81', port: 80 })).outcome, 'refused');
});

const withoutProgram = KUBE_PROXY === undefined ? 'KUBE_PROXY names no kube-proxy' : false;
t.test('a kube-proxy that was killed', { skip: skip || withoutProgram }, async (t) => {
  const node = await startTestNode(t, { objects });
  const proxy = node.net.spawn(
    'node',
    [
      KUBE_PROXY!,
      '--proxy-mode=nftables',
      `--master=${node.url}`,
      '--kube-api-content-type=application/json',
      `--hostname-override=${NODE_NAME}`,
      `--cluster-cidr=${CLUSTER_CIDR}`,
      '--conntrack-max-per-core=0',
      '--conntrack-tcp-timeout-established=0',
      '--conntrack-tcp-timeout-close-wait=0',
      '--healthz-bind-address=127.0.0.1:10266',
    ],
    { stdio: 'ignore' },
  );
  const ended = new Promise((resolve) => proxy.once('exit', resolve));
  const answers = async (ip: string, port: number): Promise<boolean> =>
    (await node.client.dial({ proto: 'TCP', ip, port, timeoutMs: 300 })).outcome === 'answered';
  await until('kube-proxy serves', async () => (await answers(IP, 80)) && (await answers('172.18.0.2', NODE_PORT)));
  proxy.kill('SIGKILL');
  await ended;
  await takeOver(t, node);
});
