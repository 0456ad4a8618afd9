// Two ServicePorts that claim one address: who serves it, who is told, and what happens when the owner goes (N-18).
import t from 'tap';
import { planService } from '../../agent/plan/plan-service.ts';
import type { Problem } from '../../agent/state/problem.ts';
import { State } from '../../agent/state/state.ts';
import { type Raw, rawService } from '../support/kube-objects.ts';

function newState() {
  const told: string[] = [];
  const onProblems = (problems: readonly Problem[]): void => {
    for (const { object, field, message } of problems) told.push(`${object}: ${field}: ${message}`);
  };
  return { state: new State({ nodeName: 'worker-a', startedMs: 0, allowExternalIPs: true, onProblems }), told };
}

/** Frontends of a Service's plan: `kind ip:port`. */
function served(state: State, name: string): string[] {
  const plan = planService({ ...state.planInput(`shop/${name}`, 'IPv4'), nodeIP: '192.0.2.11' });
  return (plan?.ports ?? []).flatMap((port) => port.frontends.map((f) => `${f.kind} ${f.ip ?? '*'}:${f.port}`));
}

const changed = (state: State) => [...state.takeChanges().services.keys()].sort();
const created = (day: number) => ({ creationTimestamp: `2026-01-${String(day).padStart(2, '0')}T00:00:00Z` });
let lastIP = 0;
const withIP = (name: string, day: number, spec: Raw = {}) => {
  const ip = `10.96.1.${++lastIP}`;
  return rawService(name, { clusterIP: ip, clusterIPs: [ip], ...spec }, created(day));
};
const nodePort = { ports: [{ name: 'http', port: 80, nodePort: 30080 }] };

t.test('the oldest Service has the node port; the next gets it when that one goes', async (t) => {
  const { state, told } = newState();
  state.apply('Service', withIP('young', 3, nodePort));
  state.apply('Service', withIP('old', 1, nodePort));
  state.apply('Service', withIP('middle', 2, nodePort));
  t.same(changed(state), ['shop/middle', 'shop/old', 'shop/young']);
  const has = () => ['young', 'middle', 'old'].filter((name) => served(state, name).includes('nodePort *:30080'));
  t.same(has(), ['old']);
  t.equal(served(state, 'young').length, 1, 'the cluster IP stays');
  t.same(told.sort(), [
    'Service shop/middle: spec.ports[0].nodePort: node port 30080/TCP of shop/middle:http belongs to shop/old:http, which is older',
    'Service shop/young: spec.ports[0].nodePort: node port 30080/TCP of shop/young:http belongs to shop/old:http, which is older',
  ]);
  state.remove('Service', 'shop', 'old');
  t.same(changed(state), ['shop/middle', 'shop/old']);
  t.same(has(), ['middle']);
  t.same(
    state.problems().map((problem) => problem.message),
    ['node port 30080/TCP of shop/young:http belongs to shop/middle:http, which is older'],
  );
  state.apply('Service', withIP('middle', 2));
  t.same(changed(state), ['shop/middle', 'shop/young']);
  t.same(has(), ['young']);
  t.same(state.problems(), []);
});

t.test('age decides before the name, the name before the port name, unknown age is youngest', async (t) => {
  const owner = (...services: Raw[]) => {
    const { state } = newState();
    for (const service of services) state.apply('Service', service);
    return services
      .map((s) => s.metadata.name)
      .filter((name) => served(state, name).includes('externalIP 198.18.9.5:80'));
  };
  const external = { externalIPs: ['198.18.9.5'] };
  t.same(owner(withIP('a', 2, external), withIP('b', 1, external)), ['b']);
  t.same(owner(withIP('b', 1, external), withIP('a', 1, external)), ['a']);
  const ageless = rawService('a', { ...external, clusterIP: '10.96.2.1', clusterIPs: ['10.96.2.1'] });
  t.same(owner(ageless, withIP('b', 9, external)), ['b']);
});

t.test('kinds of address meet: cluster IP, external IP and load balancer IP of different Services', async (t) => {
  const { state } = newState();
  state.apply('Service', rawService('web', { clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'] }, created(1)));
  state.apply('Service', withIP('thief', 2, { externalIPs: ['10.96.0.1'] }));
  state.apply('Service', { ...withIP('other', 3), status: { loadBalancer: { ingress: [{ ip: '10.96.0.1' }] } } });
  state.takeChanges();
  t.same(served(state, 'web'), ['clusterIP 10.96.0.1:80']);
  t.equal(served(state, 'thief').length, 1);
  t.equal(served(state, 'other').length, 1);
  t.same(
    state.problems().map(({ object, field }) => `${object} ${field}`),
    ['Service shop/thief spec.externalIPs', 'Service shop/other status.loadBalancer.ingress'],
  );
});

t.test('one ServicePort may have an address in two kinds (S-46)', async (t) => {
  const { state } = newState();
  const raw = withIP('web', 1, { externalIPs: ['198.18.9.5'] });
  state.apply('Service', { ...raw, status: { loadBalancer: { ingress: [{ ip: '198.18.9.5' }] } } });
  state.takeChanges();
  t.same(served(state, 'web').slice(1), ['externalIP 198.18.9.5:80', 'loadBalancer 198.18.9.5:80']);
  t.same(state.problems(), []);
});

t.test('two ports of one Service on one node port: the first by name has it', async (t) => {
  const { state } = newState();
  const ports = [
    { name: 'b', port: 81, nodePort: 30080 },
    { name: 'a', port: 80, nodePort: 30080 },
    { name: 'u', port: 80, nodePort: 30080, protocol: 'UDP' },
  ];
  state.apply('Service', withIP('web', 1, { ports }));
  state.takeChanges();
  const plan = planService({ ...state.planInput('shop/web', 'IPv4'), nodeIP: '192.0.2.11' });
  const withNodePort = plan?.ports.filter((port) => port.frontends.some((frontend) => frontend.kind === 'nodePort'));
  t.same(
    withNodePort?.map((port) => port.portName),
    ['a', 'u'],
  );
  t.match(state.problems(), [{ field: 'spec.ports[0].nodePort' }]);
});

for (const seen of ['deleted and created', 'updated only, after a lost watch']) {
  t.test(`an owner created anew, ${seen}, loses to those who are older now`, async (t) => {
    const { state } = newState();
    const a = withIP('a', 1, nodePort);
    state.apply('Service', a);
    state.apply('Service', withIP('b', 2, nodePort));
    state.takeChanges();
    if (seen.startsWith('deleted')) state.remove('Service', 'shop', 'a');
    state.apply('Service', { ...a, metadata: { ...a.metadata, ...created(3) } });
    t.same(changed(state), ['shop/a', 'shop/b']);
    t.ok(served(state, 'b').includes('nodePort *:30080'));
    t.notOk(served(state, 'a').includes('nodePort *:30080'));
  });
}

t.test('a deleted and recreated Service notices that its address changed hands meanwhile', async (t) => {
  const { state } = newState();
  const a = withIP('a', 5, nodePort);
  state.apply('Service', a);
  state.takeChanges();
  state.remove('Service', 'shop', 'a');
  state.apply('Service', withIP('b', 1, nodePort));
  state.apply('Service', a);
  t.same(changed(state), ['shop/a', 'shop/b']);
});

t.test('a loser that is no longer selected loses its Problem too', async (t) => {
  const { state } = newState();
  state.apply('Service', withIP('a', 1, nodePort));
  state.apply('Service', withIP('b', 2, nodePort));
  state.takeChanges();
  t.equal(state.problems().length, 1);
  state.apply('Service', rawService('b', { clusterIP: 'None' }));
  state.takeChanges();
  t.same(state.problems(), []);
});

t.test('external IPs that are not allowed claim nothing (S-10)', async (t) => {
  const state = new State({ nodeName: '', startedMs: 0, allowExternalIPs: false });
  state.apply('Service', withIP('thief', 1, { externalIPs: ['10.96.0.1'] }));
  state.apply('Service', rawService('web', {}, created(2)));
  state.takeChanges();
  t.same(served(state, 'web'), ['clusterIP 10.96.0.1:80']);
  t.equal(served(state, 'thief').length, 1);
  t.same(state.problems(), []);
});
