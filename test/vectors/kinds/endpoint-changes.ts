// Slice events to changed Services and conntrack requests (E-9, E-45, E-47).
import assert from 'node:assert/strict';
import type { Family } from '../../../native/ip.ts';
import { endpointMap, sameSet, servicesOf, stateOf, type Vector } from '../vector.ts';

export function run({ input, expect }: Vector): void {
  const family: Family = input.family;
  const state = stateOf({ nodeName: input.nodeName });
  const services = new Set<string>();
  for (const [i, step] of input.steps.entries()) {
    for (const slice of step.apply) state.apply('EndpointSlice', slice);
    for (const key of step.delete) {
      const [namespace, name] = key.split('/');
      state.remove('EndpointSlice', namespace, name);
    }
    for (const service of servicesOf(step.apply)) services.add(service);
    const changes = state.takeChanges();
    const updated = [...changes.services].filter(([, families]) => families.includes(family)).map(([key]) => key);
    sameSet(updated, expect.steps[i].updatedServices, `step ${i}: updated Services`);
    assert.equal(changes.conntrack[family] !== null, expect.steps[i].conntrackCleanup, `step ${i}: conntrack`);
    sameSet(endpointMap(state, family, services), expect.steps[i].endpoints, `step ${i}: endpoints`);
  }
}
