// Slices of one Service that say different things about one endpoint. Which of them counts is E-18's matter; here they are told.
import { contradict, type EndpointSlice } from './endpoint-slice.ts';
import { objectLabel, type Problem, ProblemList } from './problem.ts';

/** Problems by the label of the slice, the later one by name of two; `slices` are of one Service and family. */
export function contradictions(slices: readonly EndpointSlice[]): Map<string, readonly Problem[]> {
  const out = new Map<string, readonly Problem[]>();
  if (slices.length < 2) return out;
  const said = new Map<string, { slice: EndpointSlice; ready: boolean; serving: boolean; terminating: boolean }>();
  for (const slice of slices) {
    const label = objectLabel('EndpointSlice', slice.namespace, slice.name);
    const problems = new ProblemList(label);
    for (const { name, protocol, endpoints } of slice.ports) {
      for (const { key, ready, serving, terminating } of endpoints) {
        const id = `${key} ${name}/${protocol}`;
        const other = said.get(id);
        if (other === undefined) said.set(id, { slice, ready, serving, terminating });
        else if (contradict(other, { ready, serving, terminating }))
          problems.add(
            'endpoints',
            `EndpointSlice ${other.slice.namespace}/${other.slice.name} says otherwise of ${key}`,
          );
      }
    }
    const list = problems.list();
    if (list.length > 0) out.set(label, list);
  }
  return out;
}
