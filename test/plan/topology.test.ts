// Why endpoints are left out, and what always holds between the sets.
import t from 'tap';
import { categorize, explainEndpoints, type LeftOut, reachable } from '../../agent/plan/topology.ts';
import type { Endpoint } from '../../backends/service-plan.ts';

function endpoint(n: number, facts: Partial<Endpoint> = {}): Endpoint {
  const ip = `10.0.0.${n}`;
  const rest = { local: false, ready: true, serving: true, terminating: false, zoneHints: null, nodeHints: null };
  return { ip, port: 80, key: `${ip}:80`, ...rest, ...facts };
}

const draining = { ready: false, serving: true, terminating: true };
const gone = { ready: false, serving: false, terminating: true };
const notReady = { ready: false, serving: false, terminating: false };
const CLUSTER = { usesCluster: true, usesLocal: false };
const INTERNAL_LOCAL = { usesCluster: false, usesLocal: true };
const BOTH = { usesCluster: true, usesLocal: true };

interface Case {
  name: string;
  port: typeof CLUSTER;
  endpoints: Endpoint[];
  /** Reason for each endpoint, null where it is used. */
  leftOut: (LeftOut | null)[];
}

const cases: Case[] = [
  {
    name: 'ready ones are used, the others say what they are',
    port: CLUSTER,
    endpoints: [endpoint(1), endpoint(2, notReady), endpoint(3, draining), endpoint(4, gone)],
    leftOut: [null, 'notReady', 'terminating', 'terminating'],
  },
  {
    name: 'draining ones step in',
    port: CLUSTER,
    endpoints: [endpoint(2, notReady), endpoint(3, draining), endpoint(4, gone)],
    leftOut: ['notReady', null, 'terminating'],
  },
  {
    name: 'serving but not ready and not terminating is never used',
    port: BOTH,
    endpoints: [endpoint(1, { ready: false, local: true })],
    leftOut: ['notReady'],
  },
  {
    name: 'zone hints',
    port: CLUSTER,
    endpoints: [endpoint(1, { zoneHints: ['a'] }), endpoint(2, { zoneHints: ['b'] }), endpoint(3, { ...draining })],
    leftOut: [null, 'otherZone', 'terminating'],
  },
  {
    name: 'node hints',
    port: CLUSTER,
    endpoints: [endpoint(1, { nodeHints: ['me'] }), endpoint(2, { nodeHints: ['you'] })],
    leftOut: [null, 'otherNode'],
  },
  {
    name: 'internal policy Local',
    port: INTERNAL_LOCAL,
    endpoints: [endpoint(1, { local: true }), endpoint(2), endpoint(3, { ...draining, local: true })],
    leftOut: [null, 'notLocal', 'terminating'],
  },
  {
    name: 'external policy Local uses the rest through the cluster set',
    port: BOTH,
    endpoints: [
      endpoint(1, { local: true, zoneHints: ['b'] }),
      endpoint(2, { zoneHints: ['a'] }),
      endpoint(3, { zoneHints: ['c'] }),
    ],
    leftOut: [null, null, 'otherZone'],
  },
];

for (const { name, port, endpoints, leftOut } of cases) {
  t.test(name, async (t) => {
    const sets = categorize({ endpoints, port, nodeName: 'me', zone: 'a' });
    t.same(
      explainEndpoints({ endpoints, port, sets }).map((explained) => explained.leftOut),
      leftOut,
    );
  });
}

t.test('a list that passes whole is shared', async (t) => {
  const endpoints = [endpoint(1), endpoint(2)];
  const sets = categorize({ endpoints, port: CLUSTER, nodeName: 'me', zone: 'a' });
  t.equal(sets.cluster, endpoints);
  t.equal(reachable(sets), endpoints);
});

t.test('what holds for every mixture of two endpoints', async (t) => {
  const flags = [true, false];
  const hints = [null, ['a'], ['b']];
  const all = flags.flatMap((local) =>
    flags.flatMap((ready) =>
      flags.flatMap((serving) =>
        flags.flatMap((terminating) => hints.map((zoneHints) => ({ local, ready, serving, terminating, zoneHints }))),
      ),
    ),
  );
  let checked = 0;
  for (const first of all) {
    for (const second of all) {
      for (const port of [CLUSTER, INTERNAL_LOCAL, BOTH]) {
        const endpoints = [endpoint(1, first), endpoint(2, second)];
        const sets = categorize({ endpoints, port, nodeName: 'me', zone: 'a' });
        const usable = (e: Endpoint) => e.ready || (e.serving && e.terminating);
        const used = reachable(sets);
        const right =
          used.every(usable) &&
          sets.local.every((e) => e.local) &&
          (port.usesCluster || sets.cluster.length === 0) &&
          (port.usesLocal || sets.local.length === 0) &&
          // E-33: a set never mixes Ready and draining endpoints.
          [sets.cluster, sets.local].every((set) => new Set(set.map((e) => e.ready)).size <= 1) &&
          // E-39: a usable endpoint always leaves the cluster set filled.
          sets.cluster.length > 0 === (port.usesCluster && endpoints.some(usable)) &&
          sets.local.length > 0 === (port.usesLocal && endpoints.some((e) => e.local && usable(e))) &&
          sets.hasEndpoints === endpoints.some(usable) &&
          explainEndpoints({ endpoints, port, sets }).every((e) => (e.leftOut === null) === used.includes(e.endpoint));
        if (!right) t.fail(JSON.stringify({ first, second, port, sets }));
        checked++;
      }
    }
  }
  t.equal(checked, 48 * 48 * 3);
});
