// Random events: the state they lead to equals one built from the final objects, and plans kept up to date by
// takeChanges alone equal plans made anew.
import t from 'tap';
import { planService } from '../../agent/plan/plan-service.ts';
import { State } from '../../agent/state/state.ts';
import { FAMILIES } from '../../native/ip.ts';
import { type Raw, rawService, rawSlice } from '../support/kube-objects.ts';

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${seed}`);

/** mulberry32 */
function generator(start: number): (below: number) => number {
  let a = start;
  return (below) => {
    a = (a + 0x6d2b79f5) | 0;
    let x = Math.imul(a ^ (a >>> 15), 1 | a);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) % below;
  };
}

const random = generator(seed);
const pick = <T>(...list: T[]): T => list[random(list.length)]!;

function randomService(name: string): Raw {
  const ip = `10.96.0.${random(4)}`; // .0.0 is fine, and few addresses collide often
  const ports = Array.from({ length: 1 + random(2) }, (_, i) => ({
    name: pick('http', 'dns', 'x', 5 as never),
    protocol: pick('TCP', 'UDP'),
    port: 80 + i,
    nodePort: pick(0, 30000, 30001),
  }));
  const spec = {
    type: pick('ClusterIP', 'LoadBalancer', 'ExternalName'),
    clusterIP: pick(ip, ip, ip, 'None'),
    clusterIPs: [ip, 'fd00::1'],
    ipFamilies: pick(['IPv4'], ['IPv4', 'IPv6']),
    externalIPs: pick([], ['198.18.9.5'], ['198.18.9.5', 'bad', '10.96.0.1']),
    externalTrafficPolicy: pick('Local', 'Cluster'),
    ports,
  };
  return rawService(name, spec, { creationTimestamp: pick(undefined, '2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z') });
}

function randomSlice(name: string): Raw {
  const family = pick('IPv4', 'IPv6');
  const endpoints = Array.from({ length: random(4) }, () => ({
    addresses: [family === 'IPv4' ? `10.128.0.${1 + random(4)}` : `fd00:1::${1 + random(4)}`],
    nodeName: pick('worker-a', 'worker-b', null),
    conditions: { ready: pick(true, false), serving: pick(true, false), terminating: pick(true, false) },
  }));
  const ports = [{ name: pick('http', 'dns'), protocol: pick('TCP', 'UDP'), port: pick(80, 81) }];
  return rawSlice(name, pick('a', 'b', 'c', 'd'), endpoints, { addressType: family, ports });
}

const newState = () => new State({ nodeName: 'worker-a', startedMs: 0, allowExternalIPs: true });
const services = ['a', 'b', 'c', 'd'].map((name) => `shop/${name}`);

function plans(state: State): Map<string, string> {
  const out = new Map<string, string>();
  for (const key of services) {
    for (const family of FAMILIES) out.set(`${key} ${family}`, planOf(state, key, family));
  }
  return out;
}

function planOf(state: State, key: string, family: (typeof FAMILIES)[number]): string {
  return JSON.stringify(planService({ ...state.planInput(key, family), nodeIP: '192.0.2.11' }));
}

t.test('incremental equals from scratch', async (t) => {
  const state = newState();
  const objects = new Map<string, { kind: 'Service' | 'EndpointSlice'; raw: Raw }>();
  const kept = plans(state);
  for (let round = 0; round < 400; round++) {
    for (let i = random(4); i >= 0; i--) {
      const isService = random(2) === 0;
      const kind = isService ? 'Service' : 'EndpointSlice';
      const name = isService ? pick('a', 'b', 'c', 'd') : pick('s1', 's2', 's3', 's4', 's5');
      if (random(3) === 0) {
        objects.delete(`${kind} ${name}`);
        state.remove(kind, 'shop', name);
      } else {
        const raw = isService ? randomService(name) : randomSlice(name);
        objects.set(`${kind} ${name}`, { kind, raw });
        state.apply(kind, raw);
      }
    }
    for (const [key, families] of state.takeChanges().services) {
      for (const family of families) kept.set(`${key} ${family}`, planOf(state, key, family));
    }
    const fresh = newState();
    for (const { kind, raw } of [...objects.values()].sort(() => random(3) - 1)) fresh.apply(kind, raw);
    fresh.takeChanges();
    const wanted = plans(fresh);
    for (const [key, plan] of wanted) {
      if (kept.get(key) !== plan) t.same(JSON.parse(kept.get(key)!), JSON.parse(plan), `round ${round}: ${key}`);
    }
    const problems = (which: State) =>
      which
        .problems()
        .map((problem) => JSON.stringify(problem))
        .sort();
    if (problems(state).join() !== problems(fresh).join()) t.same(problems(state), problems(fresh), `round ${round}`);
    const tick = [...objects.values()];
    if (tick.some(({ kind, raw }) => state.apply(kind, raw))) t.fail(`round ${round}: redelivery is a change`);
  }
  t.equal(state.hasChanges(), false);
});

t.test('each address is served by at most one ServicePort', async (t) => {
  const state = newState();
  let seen = 0;
  for (let round = 0; round < 200; round++) {
    state.apply('Service', randomService(pick('a', 'b', 'c', 'd')));
    const owners = new Map<string, string>();
    for (const key of services) {
      for (const family of FAMILIES) {
        const plan = planService({ ...state.planInput(key, family), nodeIP: '192.0.2.11' });
        for (const port of plan?.ports ?? []) {
          for (const { ip, port: number } of port.frontends) {
            const address = `${family} ${ip} ${port.protocol} ${number}`;
            const owner = owners.get(address) ?? `${key} ${port.portName}`;
            owners.set(address, owner);
            if (owner !== `${key} ${port.portName}`) t.fail(`round ${round}: ${address}: ${owner} and ${key}`);
          }
        }
      }
    }
    seen += owners.size;
  }
  t.ok(seen > 0);
});
