// What becomes of real servers: rows of a situation, the operations, who drains, whose connections are asked for.
import t from 'tap';
import { decideRealServers, type RealServerInput, realServerKey } from '../../../backends/ipvs/real-servers.ts';

const A = { ip: '10.128.4.30', port: 8080 };
const B = { ip: '10.128.7.40', port: 8080 };
const B_OTHER_PORT = { ip: '10.128.7.40', port: 9090 };
const SIX = { ip: 'fd00:10:128::7', port: 8080 };

interface Row {
  name: string;
  input: Partial<RealServerInput>;
  /** Connections by key, of exactly those that are asked for. */
  connections?: Record<string, number>;
  operations?: string[];
  draining?: string[];
}

const weigh = (server: { ip: string; port: number }, weight: number) => ({ ...server, weight });

const ROWS: readonly Row[] = [
  {
    name: 'nothing to do',
    input: { wanted: [A, SIX], present: [weigh(A, 1), weigh(SIX, 1)] },
  },
  {
    name: 'ip and port identify a real server (V-16)',
    input: { wanted: [A, B_OTHER_PORT, SIX], present: [weigh(A, 1), weigh(B, 1)] },
    connections: { '10.128.7.40:8080': 0 },
    operations: ['add 10.128.7.40:9090 1', 'add [fd00:10:128::7]:8080 1', 'delete 10.128.7.40:8080'],
  },
  {
    name: 'one comes before the other leaves',
    input: { wanted: [A], present: [weigh(B, 1)] },
    connections: { '10.128.7.40:8080': 2 },
    operations: ['add 10.128.4.30:8080 1', 'update 10.128.7.40:8080 0'],
    draining: ['10.128.7.40:8080'],
  },
  {
    name: 'one that drains is left alone in a sync (V-18)',
    input: { wanted: [A], present: [weigh(A, 1), weigh(B, 0)] },
    draining: ['10.128.7.40:8080'],
  },
  {
    name: 'one that drains comes back: afresh (V-17b)',
    input: { wanted: [B], present: [weigh(B, 0)] },
    operations: ['delete 10.128.7.40:8080 0', 'add 10.128.7.40:8080 1'],
  },
  {
    name: 'another weight of a wanted one stays after the first sync (V-17)',
    input: { wanted: [B], present: [weigh(B, 7)] },
  },
  {
    name: 'first sync: any other weight of a wanted one becomes 1 (V-17a)',
    input: { firstSync: true, wanted: [A, B], present: [weigh(A, 7), weigh(B, 0)] },
    operations: ['update 10.128.4.30:8080 1', 'update 10.128.7.40:8080 1'],
  },
  {
    name: 'first sync: one that a predecessor left draining goes on draining (V-22)',
    input: { firstSync: true, wanted: [A], present: [weigh(A, 1), weigh(B, 0)] },
    connections: { '10.128.7.40:8080': 1 },
    draining: ['10.128.7.40:8080'],
  },
  {
    name: 'first sync: and leaves if it has no connections any more',
    input: { firstSync: true, wanted: [A], present: [weigh(A, 1), weigh(B, 0)] },
    connections: { '10.128.7.40:8080': 0 },
    operations: ['delete 10.128.7.40:8080 0'],
  },
  {
    name: 'tick: one without connections leaves, nothing else happens (V-20)',
    input: { event: 'tick', wanted: [A], present: [weigh(B, 0), weigh(B_OTHER_PORT, 0), weigh(SIX, 1)] },
    connections: { '10.128.7.40:8080': 0, '10.128.7.40:9090': 3 },
    operations: ['delete 10.128.7.40:8080 0'],
    draining: ['10.128.7.40:9090'],
  },
  {
    name: 'tick: a wanted one of weight 0 waits for the sync',
    input: { event: 'tick', wanted: [B], present: [weigh(B, 0)] },
  },
  {
    name: 'UDP and SCTP leave at once, nobody asks (V-19)',
    input: { protocol: 'UDP', wanted: [], present: [weigh(A, 1), weigh(B, 0)] },
    operations: ['delete 10.128.4.30:8080', 'delete 10.128.7.40:8080 0'],
  },
  {
    name: 'tick: of UDP, too, only those of weight 0',
    input: { protocol: 'UDP', event: 'tick', wanted: [], present: [weigh(A, 1), weigh(B, 0)] },
    operations: ['delete 10.128.7.40:8080 0'],
  },
  {
    name: 'a limit: over, so nobody asks',
    input: { event: 'tick', wanted: [], present: [weigh(B, 0)], drainLimitSeconds: 600, drainingSeconds: () => 600 },
    operations: ['delete 10.128.7.40:8080 0'],
  },
  {
    name: 'a limit: not over',
    input: { event: 'tick', wanted: [], present: [weigh(B, 0)], drainLimitSeconds: 600, drainingSeconds: () => 599 },
    connections: { '10.128.7.40:8080': 1 },
    draining: ['10.128.7.40:8080'],
  },
  {
    name: 'a limit of 0: draining begins in the sync and ends at the next tick',
    input: { wanted: [], present: [weigh(B, 1)], drainLimitSeconds: 0 },
    connections: { '10.128.7.40:8080': 1 },
    operations: ['update 10.128.7.40:8080 0'],
    draining: ['10.128.7.40:8080'],
  },
];

for (const { name, input, connections = {}, operations = [], draining = [] } of ROWS) {
  t.test(name, async (t) => {
    const asked: string[] = [];
    const decision = decideRealServers({
      protocol: 'TCP',
      event: 'sync',
      firstSync: false,
      wanted: [],
      present: [],
      connections: (server) => {
        const key = realServerKey(server);
        asked.push(key);
        return connections[key]!;
      },
      drainingSeconds: () => 0,
      drainLimitSeconds: null,
      ...input,
    });
    t.same(
      decision.operations.map(({ op, server }) =>
        op === 'delete' && server.weight === 1
          ? `${op} ${realServerKey(server)}`
          : `${op} ${realServerKey(server)} ${server.weight}`,
      ),
      operations,
    );
    t.same(decision.draining.map(realServerKey), draining);
    t.ok(decision.draining.every(({ weight }) => weight === 0));
    t.same(asked, Object.keys(connections));
  });
}

t.test('applied to a model of the kernel, nothing is left to do, and a server that came back serves', async (t) => {
  let present = [weigh(A, 1), weigh(B, 1)];
  const open = new Map([[realServerKey(B), 1]]);
  const step = (event: 'sync' | 'tick', wanted: { ip: string; port: number }[]) => {
    const { operations, draining } = decideRealServers({
      protocol: 'TCP',
      event,
      firstSync: false,
      wanted,
      present,
      connections: (server) => open.get(realServerKey(server)) ?? 0,
      drainingSeconds: () => 0,
      drainLimitSeconds: null,
    });
    for (const { op, server } of operations) {
      const key = realServerKey(server);
      const exists = present.some((old) => realServerKey(old) === key);
      t.equal(exists, op !== 'add', `${op} ${key}`);
      present = present.filter((old) => realServerKey(old) !== key);
      if (op !== 'delete') present.push(server);
    }
    return { count: operations.length, draining: draining.map(realServerKey) };
  };
  t.same(step('sync', [A]), { count: 1, draining: ['10.128.7.40:8080'] });
  t.same(step('sync', [A]), { count: 0, draining: ['10.128.7.40:8080'] });
  t.same(step('tick', [A]), { count: 0, draining: ['10.128.7.40:8080'] });
  t.same(step('sync', [A, B]), { count: 2, draining: [] });
  t.same(present, [weigh(A, 1), weigh(B, 1)]);
  t.same(step('sync', [A]), { count: 1, draining: ['10.128.7.40:8080'] });
  open.clear();
  t.same(step('tick', [A]), { count: 1, draining: [] });
  t.same(present, [weigh(A, 1)]);
});
