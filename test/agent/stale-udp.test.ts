// UDP flows that are pinned to an endpoint by the connection table move on when the endpoint goes (S-80…S-84).
import t, { type Test } from 'tap';
import type { ApiObject } from '../support/api-store.ts';
import type { Attempt } from '../support/host-calls.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { podIp, startTestNode, type TestNode } from '../support/test-node.ts';

const missing = await namespacesMissing();
const skip = missing ?? false;

const IP = '10.96.0.53';
const OTHER_IP = '10.96.0.54';
const NODE_PORT = 30053;
const PORTS = [{ name: 'dns', protocol: 'UDP', port: 53 }];

const service = (name: string, ip: string, spec: object = {}): ApiObject =>
  rawService(name, { clusterIP: ip, clusterIPs: [ip], ports: PORTS, ...spec });
const slice = (name: string, pods: readonly (number | object)[]): ApiObject =>
  rawSlice(
    `${name}-1`,
    name,
    pods.map((pod) => (typeof pod === 'number' ? podIp(pod) : pod)),
    { ports: [{ name: 'dns', protocol: 'UDP', port: 8053 }] },
  );

const objects: ApiObject[] = [
  service('dns', IP, { type: 'NodePort', ports: [{ ...PORTS[0], nodePort: NODE_PORT }] }),
  slice('dns', [1]),
  service('other', OTHER_IP),
  slice('other', [2]),
];

const who = (attempt: Attempt): string =>
  attempt.outcome === 'answered' ? `${attempt.host} from ${attempt.peerPort}` : attempt.outcome;

/** A UDP socket of the client that stays. */
class Flow {
  readonly #node: TestNode;
  readonly #flow: number;
  /** Who answered first. */
  readonly first: string;

  constructor(node: TestNode, flow: number, first: Attempt) {
    this.#node = node;
    this.#flow = flow;
    this.first = who(first);
  }

  static async open(node: TestNode, ip: string, port = 53): Promise<Flow> {
    const { flow, first } = await node.client.call('open', { proto: 'UDP', ip, port });
    return new Flow(node, flow, first);
  }

  async say(timeoutMs = 500): Promise<string> {
    return who(await this.#node.client.call('say', { flow: this.#flow, timeoutMs }));
  }
}

const host = (text: string): string => text.split(' ')[0]!;
/** Of /proc/net/nf_conntrack only its count is there for all kernels. */
const entries = (node: TestNode): number =>
  Number(node.net.exec('node', ['cat', '/proc/sys/net/netfilter/nf_conntrack_count']));

/** Puts slices and waits for the kernel's acknowledgement and the round of conntrack after it. */
async function change(node: TestNode, ...slices: readonly ApiObject[]): Promise<void> {
  const agent = node.agents.at(-1)!;
  let version = 0;
  for (const object of slices) ({ version } = node.server.store.put(object));
  await agent.acknowledged(version);
  await agent.status(); // the round belongs to the same turn as the acknowledgement
}

async function start(t: Test): Promise<TestNode> {
  const node = await startTestNode(t, { ports: [8053], objects });
  await node.agent({ flags: ['--nodeport-addresses=172.18.0.0/16'] }).ready();
  return node;
}

t.test('endpoints change while the agent runs', { skip }, async (t) => {
  const node = await start(t);
  const agent = node.agents[0]!;
  const flow = await Flow.open(node, IP);
  const atNodePort = await Flow.open(node, '172.18.0.2', NODE_PORT);
  const other = await Flow.open(node, OTHER_IP);
  const direct = await Flow.open(node, podIp(1), 8053);
  t.strictSame(
    [flow, atNodePort, other, direct].map((f) => host(f.first)),
    ['pod-1', 'pod-1', 'pod-2', 'pod-1'],
  );

  await change(node, slice('dns', [1, 3]));
  t.equal(host(await flow.say()), 'pod-1', 'another endpoint does not move a flow');
  t.equal(agent.all('deleted stale UDP conntrack entries').length, 0);

  await change(node, slice('dns', [3]));
  t.equal(host(await flow.say()), 'pod-3', 'a flow whose endpoint is gone moves with the next datagram');
  t.equal(host(await atNodePort.say()), 'pod-3', 'also one to the node port');
  t.equal(await other.say(), other.first, 'a flow to another Service stays, with its source port');
  t.equal(await direct.say(), direct.first, 'a flow straight to the pod stays');
  t.match(agent.all('deleted stale UDP conntrack entries'), [{ family: 'IPv4', entries: 2 }]);

  const conditions = { ready: false, serving: true, terminating: true };
  await change(node, slice('dns', [{ addresses: [podIp(3)], conditions }, 4]));
  t.equal(host(await flow.say()), 'pod-3', 'an endpoint that still serves while it terminates keeps its flows (S-81)');
  await change(node, slice('dns', [4]));
  t.equal(host(await flow.say()), 'pod-4', 'until it is gone');

  const before = entries(node);
  await change(node, slice('dns', []));
  t.equal(host(await flow.say()), 'pod-4', 'without any endpoint its entries are left alone (S-84)');
  t.ok(entries(node) >= before);
  await change(node, slice('dns', [1]));
  t.equal(host(await flow.say()), 'pod-1', 'until endpoints return');
});

t.test('endpoints change while the agent is down', { skip }, async (t) => {
  const node = await start(t);
  const flow = await Flow.open(node, IP);
  const other = await Flow.open(node, OTHER_IP);
  t.equal(host(flow.first), 'pod-1');
  await node.agents[0]!.stop('SIGKILL');
  node.server.store.put(slice('dns', [2]));
  t.equal(host(await flow.say()), 'pod-1', 'nobody moves it');
  const agent = node.agent({ flags: ['--nodeport-addresses=172.18.0.0/16'] });
  await agent.ready();
  await agent.status();
  t.equal(host(await flow.say()), 'pod-2', 'the next agent does');
  t.equal(await other.say(), other.first, 'and leaves the others alone');
  t.match(agent.all('deleted stale UDP conntrack entries'), [{ family: 'IPv4', entries: 1 }]);
});

t.test('flows from before the Service had rules', { skip }, async (t) => {
  const node = await startTestNode(t, { ports: [8053], objects: [] });
  const agent = node.agent();
  await agent.ready();
  const flow = await Flow.open(node, IP);
  t.not(host(flow.first), 'pod-1');
  for (const object of objects) node.server.store.put(object);
  await change(node, slice('dns', [1]));
  t.equal(host(await flow.say()), 'pod-1', 'are not left without translation (S-83)');
});
