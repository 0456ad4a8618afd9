// session affinity over time, in the rules of the nftables backend; slices change between connections.
import assert from 'node:assert/strict';
import { desiredTable } from '../../../backends/nftables/desired.ts';
import { tablesOf } from '../../../backends/nftables/render.ts';
import { clusterOf } from '../../support/nftables-vector.ts';
import { RulesetSimulator } from '../../support/ruleset-simulator.ts';
import { type NotTested, sameSet, type Vector } from '../vector.ts';

export async function run({ input, expect }: Vector): Promise<NotTested> {
  const notTested: NotTested = {};
  for (const backend of input.backends as string[]) if (backend !== 'nftables') notTested[backend] = 1;
  if (!input.backends.includes('nftables')) return notTested;
  const { state, settings, planner, localAddresses } = clusterOf(input);
  const tables = tablesOf(settings, await planner.all());
  const desired = () => tables.map((table) => desiredTable(settings, table));
  let nowMs = 0;
  const simulator = new RulesetSimulator({ tables: desired(), localAddresses, nowMs: () => nowMs });
  state.takeChanges();
  let slices: { metadata: { namespace: string; name: string } }[] = input.endpointSlices;
  let connection = 0;
  for (const event of input.timeline) {
    nowMs = event.at * 1000;
    if (event.event === 'endpoint-slices') {
      for (const { metadata } of slices) state.remove('EndpointSlice', metadata.namespace, metadata.name);
      slices = event.endpointSlices;
      for (const slice of slices) state.apply('EndpointSlice', slice);
      const changes = await planner.changes(state.takeChanges().services);
      for (const table of tables) table.applied(table.prepare(changes.filter((c) => c.family === table.family)));
      simulator.replaceTables(desired());
      continue;
    }
    assert.equal(event.event, 'connect');
    const { source, protocol, destination, chosen } = event;
    const packet = {
      source: source.ip,
      interface: source.interface,
      protocol,
      destination: destination.ip,
      port: destination.port,
    };
    const chances = new Map<string | null, number>();
    for (const { endpoint, probability } of simulator.outcomes(packet)) {
      chances.set(endpoint, (chances.get(endpoint) ?? 0) + probability);
    }
    const allowed: string[] = expect.allowed[connection];
    sameSet([...chances.keys()], allowed, `connection ${connection} at ${event.at} s`);
    for (const [endpoint, chance] of chances) {
      assert.ok(Math.abs(chance - 1 / allowed.length) < 1e-9, `connection ${connection}: ${endpoint}: ${chance}`);
    }
    simulator.connect(packet, chosen);
    connection++;
  }
  assert.equal(connection, expect.allowed.length);
  return notTested;
}
