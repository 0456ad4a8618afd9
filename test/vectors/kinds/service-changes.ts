// Service events to changed Services (E-46).
import { sameSet, stateOf, type Vector } from '../vector.ts';

export function run({ input, expect }: Vector): void {
  const state = stateOf({ services: input.applied });
  state.takeChanges();
  for (const { type, object } of input.events) {
    if (type === 'delete') state.remove('Service', object.metadata.namespace, object.metadata.name);
    else state.apply('Service', object);
  }
  const updated = [...state.takeChanges().services].filter(([, families]) => families.includes(input.family));
  sameSet(
    updated.map(([key]) => key),
    expect.updatedServices,
    'updated Services',
  );
}
