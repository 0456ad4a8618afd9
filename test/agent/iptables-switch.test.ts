// From iptables to nftables and back while clients connect: no connection is refused or lost, and those that stand go on.
import t from 'tap';
import type { Variant } from '../../backends/iptables/run-tool.ts';
import type { ApiObject } from '../support/api-store.ts';
import { clusterObjects } from '../support/cluster.ts';
import { inVariant, NodeTools, VARIANTS, variantMissing } from '../support/iptables-node.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { type AgentOptions, NODE_NAME, type RunningAgent } from '../support/running-agent.ts';
import { podIp, startTestNode, type TestNode, until } from '../support/test-node.ts';
import { scaled, scaledRate } from '../support/time-scale.ts';

const missing = await namespacesMissing();
const IP = '10.96.0.80';
const NODE_PORT = 30080;
const STANDING_PORT = 9000;
const STANDING_IP = '10.96.0.90';

const objects: ApiObject[] = [
  rawService('web', {
    type: 'NodePort',
    clusterIP: IP,
    clusterIPs: [IP],
    ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: NODE_PORT }],
  }),
  rawSlice('web-1', 'web', [podIp(1), { addresses: [podIp(2)], nodeName: NODE_NAME }]),
  rawService('standing', { clusterIP: STANDING_IP, clusterIPs: [STANDING_IP] }),
  rawSlice('standing-1', 'standing', [podIp(3), { addresses: [podIp(4)], nodeName: NODE_NAME }], {
    ports: [{ name: 'http', protocol: 'TCP', port: STANDING_PORT }],
  }),
  rawService('empty', { clusterIP: '10.96.0.81', clusterIPs: ['10.96.0.81'] }),
  ...clusterObjects({ services: 100, endpointsPerService: 3 }),
];
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Starts an agent in another mode and waits until what the one before left is gone. */
async function switchTo(node: TestNode, mode: Partial<AgentOptions>, isGone: () => boolean): Promise<RunningAgent> {
  const agent = node.agent(mode);
  await agent.ready();
  await until('the rules of the other mode are gone', isGone);
  await pause(scaled(300));
  return agent;
}

for (const variant of VARIANTS as readonly Variant[]) {
  t.test(
    `iptables-${variant} → nftables → iptables-${variant}`,
    { skip: missing ?? variantMissing(variant) },
    async (t) => {
      const node = await startTestNode(t, { objects });
      const tools = new NodeTools(node.net, variant);
      const hasTables = (): boolean => node.nft('list', 'tables').includes('kubeplumb');
      const hasChains = (): boolean =>
        [...tools.saved('IPv4'), ...tools.saved('IPv6')].some((l) => l.startsWith(':KUBE-SERVICES'));
      let agent = node.agent(inVariant(variant));
      await agent.ready();
      t.ok(hasChains() && !hasTables());

      for (const pod of [3, 4]) {
        await node.net.host(`pod-${pod}`).call('listen', { proto: 'TCP', ip: podIp(pod), port: STANDING_PORT });
      }
      const hosts = ['client', 'pod-2', 'node'] as const;
      const flows: [string, number][] = [];
      for (const name of hosts) {
        for (let i = 0; i < 4; i++) {
          const target = { proto: 'TCP', ip: STANDING_IP, port: 80 } as const;
          const { flow, first } = await node.net.host(name).call('open', target);
          t.equal(first.outcome, 'answered');
          flows.push([name, flow]);
        }
      }
      const alive = async (when: string): Promise<void> => {
        for (const [name, flow] of flows) {
          const { outcome } = await node.net.host(name).call('say', { flow });
          if (outcome !== 'answered') t.equal(outcome, 'answered', `${when}: a connection of ${name}`);
        }
        t.pass(`${when}: ${flows.length} connections go on`);
      };
      const loads: number[] = [];
      const targets = [
        { proto: 'TCP', ip: IP, port: 80 },
        { proto: 'TCP', ip: '172.18.0.2', port: NODE_PORT },
      ] as const;
      for (const [i, name] of hosts.entries()) {
        const load = {
          targets: name === 'client' ? targets : targets.slice(0, 1),
          width: 64,
          perSecond: scaledRate(i === 0 ? 300 : 100),
        };
        loads.push((await node.net.host(name).call('startLoad', load)).load);
      }

      await agent.stop();
      agent = await switchTo(node, {}, () => !hasChains());
      t.ok(hasTables());
      await alive('in nftables mode');
      t.equal((await node.client.dial({ proto: 'TCP', ip: '10.96.0.81', port: 80 })).outcome, 'refused');
      await agent.stop();
      agent = await switchTo(node, inVariant(variant), () => !hasTables());
      t.ok(hasChains());
      await alive('back in iptables mode');
      t.equal((await node.client.dial({ proto: 'TCP', ip: '10.96.0.81', port: 80 })).outcome, 'refused');

      for (const [i, name] of hosts.entries()) {
        const { attempts, answered, results } = await node.net.host(name).call('stopLoad', { load: loads[i]! });
        t.ok(attempts > 100, `${name}: ${attempts} connections`);
        t.equal(answered, attempts, `${name}: no connection failed: ${JSON.stringify(results)}`);
      }
      t.match(await agent.status(), { verdict: 'healthy', repairs: { count: 0 }, conditions: { length: 0 } });
    },
  );
}
