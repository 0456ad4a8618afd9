// Which UDP entries are stale (S-80…S-84).
import { staleEntries, udpServicePorts } from '../../../agent/plan/conntrack-cleanup.ts';
import { sameSet, stateOf, type Vector } from '../vector.ts';

export function run({ input, expect }: Vector): void {
  const state = stateOf(input);
  const ports = [...state.serviceKeys()].flatMap((key) => udpServicePorts(state.planInput(key, input.family)));
  const entries: { id: string; protocol: string; original: never; reply: never }[] = input.conntrackEntries;
  sameSet(
    staleEntries(ports, entries).map((entry) => entry.id),
    expect.deleted,
    'deleted',
  );
}
