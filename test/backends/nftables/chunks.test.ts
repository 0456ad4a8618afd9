// A change that does not fit one transaction: after each part of it every Service serves as it did before or as it
// will afterwards. Followed with packets through the rules.
import t from 'tap';
import { frontendKeyLength } from '../../../backends/nft-table/keys.ts';
import { chunks, operationBytes } from '../../../backends/nftables/chunks.ts';
import { desiredTable } from '../../../backends/nftables/desired.ts';
import { ServiceTable } from '../../../backends/nftables/service-table.ts';
import type { ServicePlan } from '../../../backends/service-plan.ts';
import { FAMILIES, type Family } from '../../../native/ip.ts';
import {
  changeTo,
  endpoints,
  PlanWorld,
  portPlan,
  SETTINGS,
  seededRandom,
  seedOfRun,
  servicePlan,
} from '../../support/plans.ts';
import { type Outcome, type Packet, RulesetSimulator } from '../../support/ruleset-simulator.ts';
import { elementLines, TableModel } from '../../support/table-model.ts';

const NODE: Readonly<Record<Family, string>> = { IPv4: '192.0.2.11', IPv6: '2001:db8:aa::11' };
const SOURCES: Readonly<Record<Family, readonly { source: string; interface: string | null }[]>> = {
  IPv4: [
    { source: '10.128.4.200', interface: 'veth1' },
    { source: NODE.IPv4, interface: null },
    { source: '203.0.113.50', interface: 'eth0' },
    { source: '203.0.113.200', interface: 'eth0' },
  ],
  IPv6: [
    { source: 'fd00:10:128:4::c8', interface: 'veth1' },
    { source: NODE.IPv6, interface: null },
    { source: '2001:db8:113::50', interface: 'eth0' },
    { source: '2001:db8:114::50', interface: 'eth0' },
  ],
};

/** Endpoints behind each frontend, however it is reached. */
function knownEndpoints(plans: Iterable<ServicePlan>): (packet: Packet) => ReadonlySet<string> {
  const known = new Map<string, Set<string>>();
  for (const { family, ports } of plans) {
    for (const { protocol, frontends, cluster, local } of ports) {
      for (const { ip, port } of frontends) {
        const name = `${protocol} ${ip ?? NODE[family]} ${port}`;
        const keys = known.get(name) ?? new Set();
        known.set(name, keys);
        for (const { key } of [...cluster, ...local]) keys.add(key);
      }
    }
  }
  return ({ protocol, destination, port }) => known.get(`${protocol} ${destination} ${port}`)!;
}

/** One packet from everywhere to every frontend. */
function packetsTo(plans: Iterable<ServicePlan>): Map<string, Packet> {
  const out = new Map<string, Packet>();
  for (const { family, ports } of plans) {
    for (const { protocol, frontends } of ports) {
      for (const { ip, port } of frontends) {
        for (const from of SOURCES[family]) {
          const packet: Packet = { ...from, destination: ip ?? NODE[family], port, protocol };
          out.set(JSON.stringify(packet), packet);
        }
      }
    }
  }
  return out;
}

interface Behaviour {
  readonly results: ReadonlySet<string>;
  readonly endpoints: ReadonlySet<string | null>;
}

function behaviour(outcomes: readonly Outcome[]): Behaviour {
  return {
    results: new Set(outcomes.map((o) => (o.result === 'DNAT' ? `DNAT, masquerade ${o.masquerade}` : o.result))),
    endpoints: new Set(outcomes.map((o) => o.endpoint)),
  };
}

const served = ({ results }: Behaviour): boolean => [...results].every((result) => result.startsWith('DNAT'));
const refused = ({ results }: Behaviour): boolean => ![...results].some((result) => result.startsWith('DNAT'));
const same = (a: Behaviour, b: Behaviour): boolean => [...a.results].sort().join() === [...b.results].sort().join();

/** Why `now` is neither before nor after nor between, or null. `known`: endpoints the frontend has before or after. */
function contradiction(before: Behaviour, now: Behaviour, after: Behaviour, known: ReadonlySet<string>): string | null {
  if (refused(before) && same(before, after) && !refused(now)) return 'is served although it never may be';
  if (served(before) && served(after)) {
    for (const result of now.results) {
      if (!before.results.has(result) && !after.results.has(result)) return `comes to ${result}`;
    }
  }
  for (const key of now.endpoints) {
    if (key !== null && !known.has(key)) return `is sent to ${key}`;
  }
  return null;
}

const seed = seedOfRun();
t.comment(`SEED=${seed}`);

for (const family of FAMILIES) {
  t.test(`${family}: every prefix of the parts is consistent`, async (t) => {
    const random = seededRandom(seed);
    const world = new PlanWorld({ random, services: 5, maxEndpoints: 5, families: [family] });
    const table = new ServiceTable(family);
    const kernel = new TableModel();
    let parts = 0;
    for (let round = 0; round < 60; round++) {
      const old = [...world.plans.values()];
      const change = table.prepare(world.step(3));
      const packets = packetsTo([...old, ...world.plans.values()]);
      const known = knownEndpoints([...old, ...world.plans.values()]);
      table.haveActions(change.newActions);
      const base = desiredTable(SETTINGS, table);
      const elements = (model: TableModel) => {
        const fixed = ['actions', 'local-actions', 'nodeport-ips'] as const;
        return new Map([...model.elements, ...fixed.map((set) => [set, base.elements.get(set)!] as const)]);
      };
      const observe = (model: TableModel): Map<string, Behaviour> => {
        const simulator = new RulesetSimulator({
          tables: [{ ...base, elements: elements(model) }],
          localAddresses: [NODE[family]],
        });
        return new Map([...packets].map(([name, packet]) => [name, behaviour(simulator.outcomes(packet))]));
      };
      const before = observe(kernel);
      const whole = new TableModel();
      whole.elements = kernel.elements;
      whole.apply(change.reduced.now);
      const after = observe(whole);
      for (const part of chunks(change.reduced.now, 120 * (1 + random(12)), frontendKeyLength(family))) {
        try {
          kernel.apply(part);
        } catch (error) {
          t.fail(`round ${round}, part ${parts}: ${(error as Error).message}`);
          return;
        }
        parts++;
        for (const [name, now] of observe(kernel)) {
          const wrong = contradiction(before.get(name)!, now, after.get(name)!, known(packets.get(name)!));
          if (wrong !== null) {
            t.fail(`round ${round}, part ${parts}: ${name} ${wrong}`);
            return;
          }
        }
      }
      if (kernel.lines().join() !== whole.lines().join()) t.same(kernel.lines(), whole.lines(), `round ${round}`);
      table.applied(change);
      const deletions = new Map([...table.leftovers].map(([set, list]) => [set, [...list.values()]]));
      kernel.apply({ deletions, additions: new Map() });
      table.leftovers.clear();
    }
    t.ok(parts > 200, `${parts} parts`);
  });
}

t.test('parts are as large as allowed, not larger', async (t) => {
  const table = new ServiceTable('IPv4');
  const { reduced } = table.prepare([changeTo(servicePlan('web', [portPlan({ cluster: endpoints(1000) })]))]);
  const KEY = frontendKeyLength('IPv4');
  const limit = 120 * 300;
  const parts = chunks(reduced.now, limit, KEY);
  t.equal(parts.length, 4);
  for (const part of parts) t.ok(operationBytes(part) <= limit);
  const model = new TableModel();
  for (const part of parts) model.apply(part);
  const whole = new TableModel();
  whole.apply(reduced.now);
  t.same(model.lines(), whole.lines());
  t.equal(elementLines(model.elements).length, 1002);
  t.same(chunks({ deletions: new Map(), additions: new Map() }, limit, KEY), []);
});
