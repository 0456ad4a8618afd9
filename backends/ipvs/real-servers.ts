// Which real servers of one virtual server come and go (V-16…V-22). Pure, and decided each time from what the kernel
// holds: a real server of weight 0 that is not wanted is one that drains, whoever set the weight, and when.
import { type RealServer, socketText, type TransportProtocol } from '../../native/ipvs/objects.ts';

/** How V-16 identifies a real server; equal to the `key` of its endpoint. */
export const realServerKey = ({ ip, port }: Pick<RealServer, 'ip' | 'port'>): string => socketText(ip, port);

export interface RealServerInput {
  readonly protocol: TransportProtocol;
  /** `tick`: once a minute, only draining ones are looked at (V-20). */
  readonly event: 'sync' | 'tick';
  /** The first sync since the start: what the kernel holds may be the work of another process (V-17a, V-22). */
  readonly firstSync: boolean;
  readonly wanted: readonly Pick<RealServer, 'ip' | 'port'>[];
  readonly present: readonly RealServer[];
  /** Connections it still has, active and inactive. Asked only for TCP ones that would be removed. */
  readonly connections: (server: RealServer) => number;
  /** Since when it drains, in seconds; 0 if it did not yet. */
  readonly drainingSeconds: (server: RealServer) => number;
  /** null: none. */
  readonly drainLimitSeconds: number | null;
}

export interface RealServerOperation {
  readonly op: 'add' | 'update' | 'delete';
  readonly server: RealServer;
}

export interface RealServerDecision {
  /** In this order. */
  readonly operations: readonly RealServerOperation[];
  /** Those that drain after the operations. */
  readonly draining: readonly RealServer[];
}

interface Leaving {
  readonly unwanted: readonly RealServer[];
  /** Of those: the ones that go whatever connections they have, and the ones that go when they have none. */
  readonly now: readonly RealServer[];
  readonly idle: readonly RealServer[];
}

function leaving({ protocol, event, firstSync, wanted, present }: RealServerInput): Leaving {
  const keys = new Set(wanted.map(realServerKey));
  const unwanted = present.filter((server) => !keys.has(realServerKey(server)));
  const draining = unwanted.filter(({ weight }) => weight === 0);
  // With expire_nodest_conn their connections end with the next packet (V-19).
  if (protocol !== 'TCP') return { unwanted, now: event === 'tick' ? draining : unwanted, idle: [] };
  if (event === 'tick') return { unwanted, now: [], idle: draining };
  // Those that drain are left to the tick (V-18), except that the first sync knows nothing of them yet (V-22).
  return { unwanted, now: [], idle: firstSync ? unwanted : unwanted.filter(({ weight }) => weight > 0) };
}

export function decideRealServers(input: RealServerInput): RealServerDecision {
  const { event, firstSync, wanted, present, connections, drainingSeconds, drainLimitSeconds } = input;
  const byKey = new Map(present.map((server) => [realServerKey(server), server]));
  const { unwanted, now, idle } = leaving(input);
  const operations: RealServerOperation[] = [];
  // What comes goes in front of what leaves: the virtual server is never without a real server in between.
  if (event === 'sync') {
    for (const { ip, port } of wanted) {
      const fresh: RealServer = { ip, port, weight: 1 };
      const old = byKey.get(realServerKey(fresh));
      if (old === undefined) {
        operations.push({ op: 'add', server: fresh });
      } else if (firstSync && old.weight !== 1) {
        operations.push({ op: 'update', server: fresh });
      } else if (old.weight === 0) {
        operations.push({ op: 'delete', server: old }, { op: 'add', server: fresh }); // V-17b
      }
    }
  }
  const gone = new Set(now);
  const toZero = new Set<RealServer>();
  for (const server of idle) {
    const late = drainLimitSeconds !== null && server.weight === 0 && drainingSeconds(server) >= drainLimitSeconds;
    if (late || connections(server) === 0) gone.add(server);
    else if (server.weight > 0) toZero.add(server);
  }
  for (const server of toZero) operations.push({ op: 'update', server: { ...server, weight: 0 } });
  for (const server of gone) operations.push({ op: 'delete', server });
  const draining = unwanted
    .filter((server) => !gone.has(server) && (server.weight === 0 || toZero.has(server)))
    .map((server) => ({ ...server, weight: 0 }));
  return { operations, draining };
}
