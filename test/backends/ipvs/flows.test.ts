// Where packets end up that the recorded vectors do not speak of: sources that are service addresses, clients remembered,
// endpoints on the node's own addresses.
import t from 'tap';
import { desiredCompanion } from '../../../backends/ipvs/companion.ts';
import { serviceObjects } from '../../../backends/ipvs/service-objects.ts';
import type { Frontend, NodeSettings, ServicePortPlan } from '../../../backends/service-plan.ts';
import { IpvsSimulator } from '../../support/ipvs-simulator.ts';
import { endpoint, endpoints, portPlan, SETTINGS, servicePlan } from '../../support/plans.ts';
import type { Packet } from '../../support/ruleset-simulator.ts';

const NODE = '192.0.2.11';
const CLUSTER_IP: Frontend = { kind: 'clusterIP', ip: '10.96.0.1', port: 80 };
const VIP: Frontend = { kind: 'loadBalancer', ip: '198.18.0.10', port: 80 };
const OTHER_VIP: Frontend = { kind: 'loadBalancer', ip: '198.18.0.11', port: 80 };
const NODE_PORT: Frontend = { kind: 'nodePort', ip: null, port: 30080 };

const WITHOUT_DETECTOR: NodeSettings = {
  ...SETTINGS,
  families: { IPv4: { ...SETTINGS.families.IPv4!, detectLocal: null } },
};

function simulator(port: Partial<ServicePortPlan>, settings = SETTINGS, nowMs = () => 0): IpvsSimulator {
  const objects = serviceObjects(servicePlan('web', [portPlan(port)]), settings, { scheduler: 'rr' });
  const elements = new Map([...objects.elements].map(([set, own]) => [set, new Map(own)]));
  const tables = [desiredCompanion('IPv4', settings, elements)];
  return new IpvsSimulator({ tables, services: [objects], localAddresses: [NODE], nowMs });
}

/** null as interface: a process of the node. */
const packet = (source: string, destination: string, port = 80, more: Partial<Packet> = {}): Packet => ({
  source,
  destination,
  protocol: 'TCP',
  port,
  interface: null,
  ...more,
});

t.test('the node dials a cluster IP from the cluster IP itself (S-93)', async (t) => {
  const port = { frontends: [CLUSTER_IP], cluster: endpoints(1) };
  const dialled = packet('10.96.0.1', '10.96.0.1');
  t.match(simulator(port).outcomes(dialled), [{ result: 'DNAT', masquerade: true }]);
  t.match(simulator(port, WITHOUT_DETECTOR).outcomes(dialled), [{ result: 'DNAT', masquerade: true }]);
  t.match(simulator(port, WITHOUT_DETECTOR).outcomes(packet(NODE, '10.96.0.1')), [{ masquerade: false }]);
});

t.test('packets from loopback are never marked (S-93)', async (t) => {
  const port = { frontends: [CLUSTER_IP, VIP, NODE_PORT], cluster: endpoints(1) };
  for (const to of [
    packet('127.0.0.1', '10.96.0.1'),
    packet('127.0.0.1', '198.18.0.10'),
    packet('127.0.0.1', NODE, 30080),
  ]) {
    t.match(simulator(port).outcomes(to), [{ result: 'DNAT', masquerade: false }]);
  }
});

t.test('each load balancer IP may reach itself alone when the node is in the ranges (S-42)', async (t) => {
  const port = { frontends: [VIP, OTHER_VIP], cluster: endpoints(1), sourceRanges: ['192.0.2.0/24'] };
  const open = simulator({ ...port, sourcesIncludeNode: true });
  t.match(open.outcomes(packet('198.18.0.10', '198.18.0.10')), [{ result: 'DNAT', masquerade: true }]);
  t.match(open.outcomes(packet('198.18.0.11', '198.18.0.10')), [{ result: 'DROP' }]);
  t.match(open.outcomes(packet(NODE, '198.18.0.10')), [{ result: 'DNAT' }]);
  const closed = simulator({ ...port, sourceRanges: ['203.0.113.0/25'] });
  t.match(closed.outcomes(packet('198.18.0.10', '198.18.0.10')), [{ result: 'DROP' }]);
  t.match(closed.outcomes(packet(NODE, '198.18.0.10')), [{ result: 'DROP' }]);
});

t.test('policy Local: the node dials with the load balancer IP as source, and keeps it', async (t) => {
  const port = { frontends: [VIP], cluster: endpoints(1), externalLocal: true };
  t.match(simulator(port).outcomes(packet('198.18.0.10', '198.18.0.10')), [{ result: 'DNAT', masquerade: false }]);
});

t.test('a service address does not open ports of the host (V-46)', async (t) => {
  const from = { interface: 'eth0' };
  const one = simulator({ frontends: [CLUSTER_IP, VIP], cluster: endpoints(1) });
  for (const ip of ['10.96.0.1', '198.18.0.10']) {
    t.match(one.outcomes(packet('203.0.113.50', ip, 22, from)), [{ result: 'REJECT' }]);
    t.match(one.outcomes({ ...packet('203.0.113.50', ip, 22, from), protocol: 'ICMP' }), [{ result: 'REJECT' }]);
  }
  t.match(one.outcomes(packet('203.0.113.50', NODE, 22, from)), [{ result: 'PASS' }]);
  t.match(one.outcomes(packet('203.0.113.50', '203.0.113.99', 22, from)), [{ result: 'PASS', postrouting: true }]);
});

t.test('an endpoint on an address of the node', async (t) => {
  const port = { frontends: [CLUSTER_IP, NODE_PORT], cluster: [endpoint(NODE, 30080, true)] };
  const from = { interface: 'eth0' };
  t.match(simulator(port).outcomes(packet('203.0.113.50', '10.96.0.1', 80, from)), [
    { result: 'DNAT', endpoint: `${NODE}:30080`, postrouting: false },
  ]);
  t.match(simulator(port).outcomes(packet(NODE, '10.96.0.1')), [{ result: 'DNAT', endpoint: `${NODE}:30080` }]);
});

t.test('a family without Services', async (t) => {
  const six = packet('2001:db8:cc::50', '2001:db8:aa::11', 80, { interface: 'eth0' });
  t.match(simulator({ frontends: [CLUSTER_IP] }).outcomes(six), [{ result: 'PASS' }]);
});

t.test(
  'a persistent virtual server remembers clients, each for itself, until the time is over (S-56, S-57)',
  async (t) => {
    let nowMs = 0;
    const port = { frontends: [CLUSTER_IP, VIP], cluster: endpoints(3), affinitySeconds: 300 };
    const one = simulator(port, SETTINGS, () => nowMs);
    const client = packet('10.128.4.20', '10.96.0.1', 80, { interface: 'veth1' });
    const count = (p: Packet) => one.outcomes(p).length;
    t.equal(count(client), 3);
    t.equal(one.connect(client, '10.128.0.2:8080').probability, 1 / 3);
    t.match(one.outcomes(client), [{ endpoint: '10.128.0.2:8080', probability: 1 }]);
    t.equal(count({ ...client, source: '10.128.4.21' }), 3);
    t.equal(count({ ...client, destination: '198.18.0.10' }), 3);
    nowMs = 299_000;
    one.connect(client, '10.128.0.2:8080');
    nowMs = 598_000;
    t.equal(count(client), 1);
    nowMs = 600_000;
    t.equal(count(client), 3);
    t.throws(() => one.connect(client, '10.128.0.9:8080'), /no way to 10.128.0.9:8080/);
  },
);

t.test('a client is not sent to an endpoint that has left (V-21)', async (t) => {
  const port = { frontends: [CLUSTER_IP], cluster: endpoints(2), affinitySeconds: 300 };
  const client = packet('10.128.4.20', '10.96.0.1', 80, { interface: 'veth1' });
  const one = simulator(port);
  one.connect(client, '10.128.0.2:8080');
  const plan = servicePlan('web', [portPlan({ ...port, cluster: endpoints(1) })]);
  const tables = [desiredCompanion('IPv4', SETTINGS, new Map())];
  one.replace({ tables, services: [serviceObjects(plan, SETTINGS, { scheduler: 'rr' })] });
  t.match(one.outcomes(client), [{ endpoint: '10.128.0.1:8080', probability: 1 }]);
});
