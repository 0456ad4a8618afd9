// Endpoints to the cluster and the local set (E-22…E-40), and that each one left out has a reason.
import assert from 'node:assert/strict';
import { explainService } from '../../../agent/plan/plan-service.ts';
import { reachable } from '../../../agent/plan/topology.ts';
import type { Family } from '../../../native/ip.ts';
import { sameSet, stateOf, type Vector } from '../vector.ts';

export function run({ input, expect }: Vector): void {
  const family: Family = input.family;
  const state = stateOf(input);
  const ports = [...state.serviceKeys()].flatMap((service) =>
    explainService({ ...state.planInput(service, family), nodeIP: '192.0.2.11' }),
  );
  const keys = (endpoints: readonly { key: string }[]) => endpoints.map((endpoint) => endpoint.key).sort();
  const actual = ports.map(({ port, sets }) => ({
    portName: port.portName,
    protocol: port.protocol,
    cluster: keys(sets.cluster),
    local: keys(sets.local),
    reachable: keys(reachable(sets)),
    hasEndpoints: sets.hasEndpoints,
  }));
  // biome-ignore lint/suspicious/noExplicitAny: vectors have no type
  const wanted = expect.ports.map((port: any) => ({
    ...port,
    cluster: port.cluster.sort(),
    local: port.local.sort(),
    reachable: port.reachable.sort(),
  }));
  sameSet(actual, wanted, 'ports');
  for (const { endpoints, sets } of ports) {
    for (const { endpoint, cluster, local, leftOut } of endpoints) {
      assert.equal(cluster === null, sets.cluster.includes(endpoint), `${endpoint.key}: reason for the cluster set`);
      assert.equal(local === null, sets.local.includes(endpoint), `${endpoint.key}: reason for the local set`);
      assert.equal(leftOut === null, reachable(sets).includes(endpoint), `${endpoint.key}: reason`);
    }
  }
}
