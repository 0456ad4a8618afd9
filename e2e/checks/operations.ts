// What operators do: look at rules, restart, upgrade and reconfigure agents, restart nodes. Connections go on all the while.
import type { Test } from 'tap';
import type { ProxyMode } from '../cluster/cluster.ts';
import type { Stage } from '../stage.ts';
import { type Check, eachClusterIp, eventually, reaches, underLoad } from './check.ts';

/** Connections to a ClusterIP while `act` runs, and after it to a Service that did not exist before. */
async function through(t: Test, stage: Stage, name: string, act: () => Promise<void>): Promise<void> {
  const client = stage.pod(stage.nodes[0]);
  const service = await stage.service(t, `${name}-before`);
  const dial = { host: service.spec.clusterIPs![0]!, port: 80 };
  await reaches(t, stage, client, dial, stage.names(), { name: 'before' });
  const load = await underLoad(stage, dial, act);
  t.same(load.errors, [], `0 of ${load.tries} connections failed`);
  await reachesNew(t, stage, `${name}-after`);
}

async function reachesNew(t: Test, stage: Stage, name: string): Promise<void> {
  const service = await stage.service(t, name);
  await eachClusterIp(stage, service, async (host) => {
    for (const node of stage.nodes)
      await reaches(t, stage, stage.pod(node), { host, port: 80 }, stage.names(), { name: 'after' });
  });
}

/** The modes in which two switches start and end with the present one. */
const otherMode = (mode: ProxyMode): ProxyMode => (mode === 'nftables' ? 'iptables' : 'nftables');

export const OPERATIONS: readonly Check[] = [
  {
    name: 'agentctl dump on each node',
    needs: ['agent-dump'],
    async run(t, stage) {
      const service = await stage.service(t, 'dumped');
      const ip = service.spec.clusterIPs![0]!;
      const of = ['--service', `${stage.cluster.namespace}/dumped`];
      for (const node of stage.nodes) {
        await eventually(t, stage, `${node.name}: rules name the ClusterIP`, async () => {
          const rules = await stage.cluster.dump(node.name, ['--output', 'rules']);
          return rules.includes(ip) ? null : `${ip} is not in ${rules.length} characters of rules`;
        });
        await eventually(t, stage, `${node.name}: the explanation names all endpoints`, async () => {
          const explanation = await stage.cluster.dump(node.name, of);
          const missed = stage.servers.filter(({ ips }) => !explanation.includes(ips[0]!));
          return missed.length === 0 ? null : `no ${missed.map(({ name }) => name)} in: ${explanation}`;
        });
      }
    },
  },
  {
    name: 'an agent restarts',
    needs: ['agent-restart'],
    run: (t, stage) => through(t, stage, 'restart', () => stage.cluster.restartAgent(stage.nodes[0].name)),
  },
  {
    name: 'agents are upgraded',
    needs: ['agent-upgrade'],
    run: (t, stage) => through(t, stage, 'upgrade', () => stage.cluster.upgradeAgents()),
  },
  {
    name: 'the mode changes, and back',
    needs: ['mode-switch'],
    async run(t, stage) {
      const mode = stage.cluster.mode ?? 'nftables';
      for (const to of [otherMode(mode), mode]) await through(t, stage, `to-${to}`, () => stage.cluster.switchMode(to));
    },
  },
  {
    name: 'a node restarts',
    needs: ['node-restart', 'two-nodes'],
    async run(t, stage) {
      const [first, second] = stage.nodes;
      const service = await stage.service(t, 'node-restart');
      await stage.cluster.restartNode(second.name);
      await eachClusterIp(stage, service, async (host) => {
        for (const node of [first, second])
          await reaches(t, stage, stage.pod(node), { host, port: 80, tries: 20 }, stage.names(), { all: true });
      });
    },
  },
];
