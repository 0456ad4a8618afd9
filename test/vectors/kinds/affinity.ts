// session affinity over time, in the rules of each backend; slices change between connections.
import assert from 'node:assert/strict';
import { isBackend, simulated } from '../../support/vector-simulators.ts';
import { type NotTested, sameSet, type Vector } from '../vector.ts';

export async function run(vector: Vector): Promise<NotTested> {
  const notTested: NotTested = {};
  for (const backend of vector.input.backends as string[]) {
    if (isBackend(backend)) await runWith(backend, vector);
    else notTested[backend] = 1;
  }
  return notTested;
}

async function runWith(backend: Parameters<typeof simulated>[0], { input, expect }: Vector): Promise<void> {
  let nowMs = 0;
  const simulator = await simulated(backend, input, { nowMs: () => nowMs });
  const { state } = simulator.cluster;
  let slices: { metadata: { namespace: string; name: string } }[] = input.endpointSlices;
  let connection = 0;
  for (const event of input.timeline) {
    nowMs = event.at * 1000;
    if (event.event === 'endpoint-slices') {
      for (const { metadata } of slices) state.remove('EndpointSlice', metadata.namespace, metadata.name);
      slices = event.endpointSlices;
      for (const slice of slices) state.apply('EndpointSlice', slice);
      await simulator.sync();
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
    const what = `${backend}, connection ${connection} at ${event.at} s`;
    sameSet([...chances.keys()], allowed, what);
    for (const [endpoint, chance] of chances) {
      assert.ok(Math.abs(chance - 1 / allowed.length) < 1e-9, `${what}: ${endpoint}: ${chance}`);
    }
    simulator.connect(packet, chosen);
    connection++;
  }
  assert.equal(connection, expect.allowed.length);
}
