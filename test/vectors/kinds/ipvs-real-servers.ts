// what becomes of the real servers of one virtual server.
import assert from 'node:assert/strict';
import { decideRealServers, realServerKey } from '../../../backends/ipvs/real-servers.ts';
import { sameSet, type Vector } from '../vector.ts';

interface Present {
  realServer: string;
  weight: number;
  activeConnections: number;
  inactiveConnections: number;
}

const serverOf = (text: string): { ip: string; port: number } => {
  const colon = text.lastIndexOf(':');
  return { ip: text.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) };
};

export function run({ input, expect }: Vector): void {
  const { protocol, firstSync, event } = input;
  const present = new Map(input.present.map((server: Present) => [server.realServer, server]));
  const { operations, draining } = decideRealServers({
    protocol,
    firstSync,
    event,
    wanted: input.wanted.map(serverOf),
    present: input.present.map((server: Present) => ({ ...serverOf(server.realServer), weight: server.weight })),
    connections: (server) => {
      const { activeConnections, inactiveConnections } = present.get(realServerKey(server)) as Present;
      return activeConnections + inactiveConnections;
    },
    drainingSeconds: () => 1_000_000,
    drainLimitSeconds: null,
  });
  const found = operations.map(({ op, server }) => ({
    op,
    realServer: realServerKey(server),
    ...(op !== 'delete' && { weight: server.weight }),
  }));
  sameSet(found, expect.operations, 'operations');
  for (const key of new Set(found.map(({ realServer }) => realServer))) {
    const of = (list: { op: string; realServer: string }[]) =>
      list.filter((o) => o.realServer === key).map((o) => o.op);
    assert.deepEqual(of(found), of(expect.operations), `order of operations on ${key}`);
  }
  sameSet(draining.map(realServerKey), expect.gracefulList, 'graceful list');
}
