// The agent starts on a node with iptables rules as kube-proxy wrote them: what is right is not sent again, and no
// connection fails.
import { readFileSync } from 'node:fs';
import t from 'tap';
import { endpointChain, serviceChains } from '../../backends/iptables/names.ts';
import { createCounters } from '../../backends/iptables/nfacct.ts';
import type { Variant } from '../../backends/iptables/run-tool.ts';
import { FAMILIES, type Family } from '../../native/ip.ts';
import { inVariant, NodeTools, VARIANTS, variantMissing } from '../support/iptables-node.ts';
import { rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { CLUSTER_CIDR } from '../support/running-agent.ts';
import { IP, NODE_PORT, outcome, startAgent, underLoad, web } from '../support/takeover.ts';
import { podIp, startTestNode, type TestNode } from '../support/test-node.ts';

const missing = await namespacesMissing();
/** What kube-proxy wrote besides the rules of Services; the counters as far as there are any here. */
function withoutServices(family: Family, variant: Variant, counters: readonly string[]): string {
  const file = new URL(`../golden/iptables/default-${variant}-${family}.txt`, import.meta.url);
  const lines = readFileSync(file, 'utf8').split('\n');
  const rest = lines.filter((line) => !/shop\/|KUBE-(SVC|SVL|EXT|FW|SEP)-/.test(line)).join('\n');
  return counters.length > 0 ? rest : rest.replaceAll(/-m nfacct --nfacct-name +\w+ /g, '');
}

/** The rules of shop/web and shop/empty, word for word in kube-proxy's way. */
function ofServices(counters: readonly string[]): { nat: string[]; filter: string[] } {
  const { cluster, external } = serviceChains('shop/web:http', 'TCP');
  const ips = [podIp(1), podIp(2)];
  const seps = ips.map((ip) => endpointChain('shop/web:http', 'TCP', `${ip}:8080`));
  const comment = (text: string): string => `-m comment --comment "${text}"`;
  const nodePort = `${comment('shop/web:http')} -m tcp --dport ${NODE_PORT}`;
  const count = '-m nfacct --nfacct-name  localhost_nps_accepted_pkts ';
  return {
    nat: [
      ...[cluster, external, ...seps].map((chain) => `:${chain} - [0:0]`),
      `-A KUBE-SERVICES -d ${IP}/32 -p tcp ${comment('shop/web:http cluster IP')} -m tcp --dport 80 -j ${cluster}`,
      ...(counters.length > 0 ? [`-A KUBE-NODEPORTS -d 127.0.0.0/8 -p tcp ${nodePort} ${count}-j ${external}`] : []),
      `-A KUBE-NODEPORTS -p tcp ${nodePort} -j ${external}`,
      `-A ${external} ${comment('masquerade traffic for shop/web:http external destinations')} -j KUBE-MARK-MASQ`,
      `-A ${external} -j ${cluster}`,
      `-A ${cluster} ! -s ${CLUSTER_CIDR} -d ${IP}/32 -p tcp ${comment('shop/web:http cluster IP')} -m tcp --dport 80 -j KUBE-MARK-MASQ`,
      `-A ${cluster} ${comment(`shop/web:http -> ${ips[0]}:8080`)} -m statistic --mode random --probability 0.5000000000 -j ${seps[0]}`,
      `-A ${cluster} ${comment(`shop/web:http -> ${ips[1]}:8080`)} -j ${seps[1]}`,
      ...ips.flatMap((ip, i) => [
        `-A ${seps[i]} -s ${ip}/32 ${comment('shop/web:http')} -j KUBE-MARK-MASQ`,
        `-A ${seps[i]} -p tcp ${comment('shop/web:http')} -m tcp -j DNAT --to-destination ${ip}:8080`,
      ]),
    ],
    filter: [
      `-A KUBE-SERVICES -d 10.96.0.81/32 -p tcp ${comment('shop/empty:http has no endpoints')} -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable`,
    ],
  };
}

/** Puts rules where they belong: those of table nat before the jump to node ports. */
function together(fixed: string, { nat, filter }: { nat: string[]; filter: string[] }): string {
  let table = '';
  const out: string[] = [];
  const at = (line: string): string[] => {
    if (table === '*filter' && line === 'COMMIT') return filter;
    if (table === '*nat' && line.includes('must be the last rule'))
      return nat.filter((l) => l.startsWith('-A KUBE-SERVICES'));
    return table === '*nat' && line === 'COMMIT'
      ? nat.filter((l) => l.startsWith('-A') && !l.startsWith('-A KUBE-SERVICES'))
      : [];
  };
  for (const line of fixed.split('\n')) {
    if (line.startsWith('*')) table = line;
    out.push(...at(line), line);
    if (line === '*nat') out.push(...nat.filter((l) => l.startsWith(':')));
  }
  return out.join('\n');
}

for (const variant of VARIANTS) {
  t.test(
    `rules as kube-proxy leaves them, iptables-${variant}`,
    { skip: missing ?? variantMissing(variant) },
    async (t) => {
      const node = await startTestNode(t, { objects: web });
      const tools = new NodeTools(node.net, variant);
      const counters = node.net.within('node', () => createCounters());
      for (const family of FAMILIES) {
        const fixed = withoutServices(family, variant, counters);
        tools.restore(family, family === 'IPv4' ? together(fixed, ofServices(counters)) : fixed);
      }
      writeRouteLocalnet(node);
      t.equal(await outcome(node, IP), 'answered', 'they work');
      t.equal(await outcome(node, '10.96.0.81'), 'refused');
      const before = FAMILIES.map((family) => tools.saved(family));
      const agent = await underLoad(t, node, () => startAgent(node, inVariant(variant)));
      t.match(
        agent.all('rules are in place')[0],
        { added: 0, deleted: 0, objects: 0, transactions: 0 },
        'no rule is sent',
      );
      t.same(
        FAMILIES.map((family) => tools.saved(family)),
        before,
      );

      const { version } = node.server.store.put(rawSlice('web-1', 'web', [podIp(2), podIp(3)]));
      await agent.acknowledged(version);
      const answers = await node.client.call('connect', { proto: 'TCP', ip: IP, port: 80, count: 40, width: 4 });
      t.same([...new Set(answers.map((a) => (a.outcome === 'answered' ? a.host : a.outcome)))].sort(), [
        'pod-2',
        'pod-3',
      ]);
      t.match(await agent.status(), { verdict: 'healthy', repairs: { count: 0 }, conditions: { length: 0 } });
    },
  );
}

/** As kube-proxy does for node ports on loopback addresses. */
function writeRouteLocalnet(node: TestNode): void {
  node.net.exec('node', ['sh', '-c', 'echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet']);
}
