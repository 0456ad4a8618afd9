// A rolling update in ipvs mode while clients connect and hold connections: none fails, because real servers that leave
// drain; and that goes on when the agent is killed and another one starts.
import t from 'tap';
import { IpvsNode, inIpvs, ipvsMissing } from '../support/ipvs-node.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { podIp, startTestNode, until } from '../support/test-node.ts';
import { scaled, scaledRate } from '../support/time-scale.ts';

const skip = await ipvsMissing();
t.setTimeout(240_000);

const IP = '10.96.0.80';
const HELD_IP = '10.96.0.90';
const HELD = `TCP ${HELD_IP}:80`;
const HELD_PORT = 9000;
/** Each pod listens on both: the old replica and the new one. */
const OLD = 8080;
const NEW = 8081;
const REPLICAS = [1, 2, 3];
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const port = (number: number) => ({ ports: [{ name: 'http', protocol: 'TCP', port: number }] });
const heldSlice = (...pods: number[]) => rawSlice('held-1', 'held', pods.map(podIp), port(HELD_PORT));

const objects = [
  rawService('web', { clusterIP: IP, clusterIPs: [IP] }),
  rawSlice('web-old', 'web', REPLICAS.map(podIp), port(OLD)),
  rawService('held', { clusterIP: HELD_IP, clusterIPs: [HELD_IP] }),
  heldSlice(1, 2),
];

t.test('a rolling update under load', { skip }, async (t) => {
  const node = await startTestNode(t, { objects, ports: [OLD, NEW] });
  const ipvs = new IpvsNode(node.net);
  const { store } = node.server;
  let agent = node.agent(inIpvs());
  await agent.ready();
  for (const pod of [1, 2])
    await node.net.host(`pod-${pod}`).call('listen', { proto: 'TCP', ip: podIp(pod), port: HELD_PORT });

  const clients = ['client', 'node'] as const;
  const flows: { client: string; flow: number; server: string }[] = [];
  const hold = async (client: string): Promise<string> => {
    const { flow, first } = await node.net.host(client).call('open', { proto: 'TCP', ip: HELD_IP, port: 80 });
    const server = first.outcome === 'answered' ? first.host : first.outcome;
    flows.push({ client, flow, server });
    return server;
  };
  for (const client of clients) for (let i = 0; i < 4; i++) await hold(client);
  const alive = async (when: string): Promise<void> => {
    for (const { client, flow, server } of flows) {
      const { outcome } = await node.net.host(client).call('say', { flow });
      if (outcome !== 'answered') t.equal(outcome, 'answered', `${when}: a connection of ${client} to ${server}`);
    }
    t.pass(`${when}: ${flows.length} connections go on`);
  };
  const onPod1 = (): number => flows.filter(({ server }) => server === 'pod-1').length;
  t.equal(onPod1(), 4, 'they are shared out in turn');

  const target = { proto: 'TCP', ip: IP, port: 80 } as const;
  const loads: number[] = [];
  for (const client of clients) {
    const load = { targets: [target], width: 64, perSecond: scaledRate(100), keepDetails: true };
    loads.push((await node.net.host(client).call('startLoad', load)).load);
  }

  // One replica after the other: the new one comes, the old one leaves and ends a little later.
  for (const [i, pod] of REPLICAS.entries()) {
    store.put(rawSlice('web-new', 'web', REPLICAS.slice(0, i + 1).map(podIp), port(NEW)));
    const { version } = store.put(rawSlice('web-old', 'web', REPLICAS.slice(i + 1).map(podIp), port(OLD)));
    await agent.acknowledged(version);
    const left = ipvs.realServers(`TCP ${IP}:80`).find(({ address }) => address === `${podIp(pod)}:${OLD}`);
    if (left) t.match(left, { weight: 0 }, `${left.address} drains: ${left.active} active, ${left.inactive} inactive`);
    await pause(scaled(300));
    await node.net.host(`pod-${pod}`).call('unlisten', { proto: 'TCP', ip: podIp(pod), port: OLD });
  }

  // An endpoint with live connections leaves.
  const one = store.put(heldSlice(2));
  await agent.acknowledged(one.version);
  const state = () => ipvs.realServers(HELD).map((r) => `${r.address} ${r.weight} ${r.active}`);
  const drained = [`${podIp(1)}:${HELD_PORT} 0 4`, `${podIp(2)}:${HELD_PORT} 1 4`];
  t.strictSame(state(), drained, 'it has weight 0 and its connections');
  await alive('while it drains');

  // kill -9 in the middle, while the load goes on.
  t.equal(await agent.stop('SIGKILL'), 'SIGKILL');
  agent = node.agent(inIpvs());
  const restarted = await agent.ready();
  t.match(restarted, { added: 0, objects: 0 }, 'the next agent adds nothing');
  t.strictSame(state(), drained, 'and draining goes on');
  await alive('after kill -9');
  t.equal(await hold('client'), 'pod-2', 'new connections go to the other');

  // The endpoint comes back while no agent is there (kubernetes #92019, #108319).
  t.equal(await agent.stop('SIGKILL'), 'SIGKILL');
  store.put(heldSlice(1, 2));
  agent = node.agent(inIpvs());
  await agent.ready();
  t.strictSame(state(), [`${podIp(1)}:${HELD_PORT} 1 4`, `${podIp(2)}:${HELD_PORT} 1 5`], 'it has weight 1 again');
  await alive('when it is back');
  t.strictSame([await hold('client'), await hold('client')].sort(), ['pod-1', 'pod-2'], 'and gets its share');

  for (const [i, client] of clients.entries()) {
    const { attempts, answered, results, details } = await node.net.host(client).call('stopLoad', { load: loads[i]! });
    t.ok(attempts > 100, `${client}: ${attempts} connections`);
    t.equal(answered, attempts, `${client}: no connection failed: ${JSON.stringify(results)}`);
    t.strictSame(
      details!.texts.filter((text) => text.endsWith(`:${NEW}`)).sort(),
      REPLICAS.map((pod) => `pod-${pod}:${NEW}`),
      `${client}: all new replicas were reached`,
    );
  }

  // It leaves for good: gone at the next start when its connections have ended.
  const last = store.put(heldSlice(2));
  await agent.acknowledged(last.version);
  t.strictSame(state(), [`${podIp(1)}:${HELD_PORT} 0 5`, `${podIp(2)}:${HELD_PORT} 1 6`]);
  for (const { client, flow, server } of flows)
    if (server === 'pod-1') await node.net.host(client).call('close', { flow });
  t.match(await agent.status(), { verdict: 'healthy', repairs: { count: 0 }, sync: { failures: 0 } });
  t.equal(await agent.stop(), 0);
  await until('IPVS forgets connections that were reset', () => {
    const real = ipvs.realServers(HELD).find(({ address }) => address === `${podIp(1)}:${HELD_PORT}`);
    return real !== undefined && real.active + real.inactive === 0;
  });
  agent = node.agent(inIpvs());
  const { added, deleted } = await agent.ready();
  t.ok(added === 0 && deleted >= 1, `what has drained is removed: ${deleted}`);
  t.strictSame(state(), [`${podIp(2)}:${HELD_PORT} 1 6`]);
});
