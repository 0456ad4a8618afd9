// Virtual servers that nobody wants any more: which stay for their connections, for how long, and which are not ours.
import t from 'tap';
import { VirtualServers } from '../../../backends/ipvs/virtual-servers.ts';
import { type RealServerState, serverKey, type VirtualServer } from '../../../native/ipvs/objects.ts';
import type { IpvsRequest } from '../../../native/ipvs/requests.ts';
import { endpoint } from '../../support/plans.ts';

const server = (ip: string, protocol: VirtualServer['protocol'] = 'TCP'): VirtualServer => ({
  family: 'IPv4',
  protocol,
  ip,
  port: 80,
  scheduler: 'rr',
  flags: 0,
  timeoutSeconds: 0,
});
const BUSY = server('10.96.0.1');
const IDLE = server('10.96.0.2');
const UDP = server('10.96.0.3', 'UDP');
const FOREIGN = server('203.0.113.7');
const ALL = [BUSY, IDLE, UDP, FOREIGN];
const keys = ALL.map(serverKey);
const nobody = (): null => null;

t.test('what the list of all lacks is asked for', async (t) => {
  const many = Array.from({ length: 101 }, (_, n) => server(`10.96.1.${n}`));
  const state: RealServerState = { ip: '10.128.0.1', port: 8080, weight: 1, active: 0, inactive: 0 };
  const asked: string[] = [];
  const servers = new VirtualServers({
    ipvs: {
      apply: async () => [],
      servers: async () => many,
      realServers: ({ ip }) => {
        asked.push(ip);
        return [state];
      },
    },
    readRealServers: () => new Map(many.slice(1).map((s) => [serverKey(s), [state]])),
    settings: { excludeCidrs: [], drainLimitSeconds: null },
    nowMs: () => 0,
  });
  await servers.read(['IPv4']);
  t.strictSame(asked, ['10.96.1.0']);
  t.ok([...servers.listed()].every(({ realServers }) => realServers.length === 1));
});

async function present(drainLimitSeconds: number | null) {
  let ms = 0;
  const sent: string[] = [];
  const real = (active: number): RealServerState => ({ ip: '10.128.0.1', port: 8080, weight: 1, active, inactive: 9 });
  const states = new Map(ALL.map((s) => [serverKey(s), [real(s === IDLE ? 0 : 2)]]));
  const servers = new VirtualServers({
    ipvs: {
      apply: async (requests: readonly IpvsRequest[]) => {
        for (const { command, server: of } of requests) sent.push(`${command} ${of.ip}`);
        return [];
      },
      servers: async () => ALL,
      realServers: (of) => states.get(serverKey(of)) ?? [],
    },
    readRealServers: () => states,
    settings: { excludeCidrs: ['203.0.113.0/24'], drainLimitSeconds },
    nowMs: () => ms,
  });
  await servers.read(['IPv4']);
  const taken = (): string[] => sent.splice(0);
  return { servers, states, taken, wait: (seconds: number) => (ms += seconds * 1000) };
}

t.test('one with open connections stays; one of others is left alone', async (t) => {
  const { servers, states, taken } = await present(null);
  const { kept } = await servers.retire(keys, nobody);
  t.strictSame([...kept], [serverKey(BUSY)]);
  t.strictSame(taken(), [`setDestination ${BUSY.ip}`], 'it gets no new ones, and nobody else is asked for anything');
  t.strictSame(servers.retiring(), [BUSY]);
  t.notOk(servers.differs(serverKey(BUSY), null) || servers.differs(serverKey(FOREIGN), null), 'as they should be');
  await servers.remove(keys, nobody, kept);
  t.strictSame(taken(), [`deleteServer ${IDLE.ip}`, `deleteServer ${UDP.ip}`]);
  await servers.read(['IPv4']);
  t.strictSame(servers.retiring(), [BUSY], 'reading the kernel forgets nothing');

  states.set(serverKey(BUSY), []);
  t.equal((await servers.retire([serverKey(BUSY)], nobody)).kept.size, 0);
  await servers.remove([serverKey(BUSY)], nobody, new Set());
  t.strictSame(taken(), [`deleteServer ${BUSY.ip}`]);
  t.strictSame(servers.retiring(), []);
});

t.test('one that is wanted again is none of them', async (t) => {
  const { servers } = await present(null);
  await servers.retire(keys, nobody);
  await servers.update([serverKey(BUSY)], () => ({ server: BUSY, endpoints: [] }), false);
  t.strictSame(servers.retiring(), []);
});

t.test('the limit of draining holds for it', async (t) => {
  const { servers, wait } = await present(60);
  t.equal((await servers.retire(keys, nobody)).kept.size, 1);
  wait(59);
  t.equal((await servers.retire(keys, nobody)).kept.size, 1);
  wait(1);
  t.equal((await servers.retire(keys, nobody)).kept.size, 0);
});

t.test('the limit begins anew for a real server that was back in between', async (t) => {
  const { servers, taken, wait } = await present(60);
  const [first, other] = [endpoint('10.128.0.1'), endpoint('10.128.0.2')];
  const want = (...endpoints: (typeof first)[]) =>
    servers.update([serverKey(BUSY)], () => ({ server: BUSY, endpoints }), false);
  await want(other);
  await want(first, other);
  wait(61);
  taken();
  await want(other);
  t.strictSame(taken(), [`setDestination ${BUSY.ip}`], 'it drains and is not deleted');
});
