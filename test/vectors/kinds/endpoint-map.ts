// Slices to endpoints (E-6…E-21).
import { endpointMap, sameSet, servicesOf, stateOf, type Vector } from '../vector.ts';

export function run({ input, expect }: Vector): void {
  const state = stateOf(input);
  sameSet(endpointMap(state, input.family, servicesOf(input.endpointSlices)), expect.endpoints, 'endpoints');
}
