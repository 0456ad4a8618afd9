// IPVS of the running kernel, in a namespace of its own: every error that the backend gives a meaning, large batches,
// and agreement with ipvsadm.
import { spawnSync } from 'node:child_process';
import t from 'tap';
import { IpvsConnection } from '../../../native/ipvs/connection.ts';
import {
  type RealServer,
  SERVER_FLAG,
  type ServerId,
  serverKey,
  type VirtualServer,
} from '../../../native/ipvs/objects.ts';
import { readRealServers, realServerReader } from '../../../native/ipvs/proc.ts';
import type { IpvsRequest } from '../../../native/ipvs/requests.ts';
import { inUserNamespace } from '../../support/namespaces.ts';
import { enterNamespace } from '../../support/own-namespace.ts';

const entered = await enterNamespace(t);
const connection = entered ? IpvsConnection.open() : null;
const reason = inUserNamespace() ? 'IPVS wants root outside of a user namespace' : 'this kernel has no IPVS';
const skip = entered && connection !== null && !inUserNamespace() ? false : reason;
const ipvs = connection!;
t.setTimeout(300_000);
t.teardown(() => connection?.close());

function ipvsadm(...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync('ipvsadm', args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  if (error) throw error;
  if (status !== 0) throw new Error(`ipvsadm ${args.join(' ')}: ${stderr.trim()}`);
  return stdout;
}

const web: VirtualServer = {
  family: 'IPv4',
  protocol: 'TCP',
  ip: '10.96.0.1',
  port: 80,
  scheduler: 'rr',
  flags: 0,
  timeoutSeconds: 0,
};
const pod: RealServer = { ip: '10.244.0.2', port: 8080, weight: 1 };
const state = (server: RealServer) => ({ ...server, active: 0, inactive: 0 });

/** The code of the one refusal, '' for success. */
async function outcome(request: IpvsRequest): Promise<string> {
  const failures = await ipvs.apply([request]);
  return failures[0]?.error.code ?? '';
}

const byKey = (a: ServerId, b: ServerId): number => (serverKey(a) < serverKey(b) ? -1 : 1);
const byAddress = (a: RealServer, b: RealServer): number => (`${a.ip} ${a.port}` < `${b.ip} ${b.port}` ? -1 : 1);

t.test('info and timeouts', { skip }, async (t) => {
  const info = ipvs.info();
  t.match(info.version, /^1\.2\.\d+$/);
  t.ok(info.tableSize >= 0);
  const before = ipvs.timeouts();
  t.ok(before.tcp > 0 && before.tcpFin > 0 && before.udp > 0);
  ipvs.setTimeouts({ tcp: 1000, tcpFin: 0, udp: 0 });
  t.strictSame(ipvs.timeouts(), { ...before, tcp: 1000 }, '0 leaves the others (V-5)');
  ipvs.setTimeouts({ tcp: 0, tcpFin: 60, udp: 70 });
  t.strictSame(ipvs.timeouts(), { tcp: 1000, tcpFin: 60, udp: 70 });
  t.match(ipvsadm('-L', '--timeout'), 'tcp tcpfin udp): 1000 60 70');
});

t.test('errors and what they mean', { skip }, async (t) => {
  t.teardown(() => ipvs.flush());
  const server = (change: Partial<VirtualServer> = {}) => ({ ...web, ...change });
  const steps: readonly (readonly [name: string, request: IpvsRequest, code: string])[] = [
    ['change of what is not there', { command: 'setServer', server: web }, 'ESRCH'],
    ['deletion of what is not there', { command: 'deleteServer', server: web }, 'ESRCH'],
    ['real server without its virtual server', { command: 'newDestination', server: web, destination: pod }, 'ESRCH'],
    ['change of one', { command: 'setDestination', server: web, destination: pod }, 'ESRCH'],
    ['deletion of one', { command: 'deleteDestination', server: web, destination: pod }, 'ESRCH'],
    ['unknown scheduler', { command: 'newServer', server: server({ scheduler: 'none-such' }) }, 'ENOENT'],
    ['creation', { command: 'newServer', server: web }, ''],
    ['creation of what is there', { command: 'newServer', server: web }, 'EEXIST'],
    ['change to an unknown scheduler', { command: 'setServer', server: server({ scheduler: 'none-such' }) }, 'ENOENT'],
    [
      'change of a real server that is not there',
      { command: 'setDestination', server: web, destination: pod },
      'ENOENT',
    ],
    ['deletion of one', { command: 'deleteDestination', server: web, destination: pod }, 'ENOENT'],
    ['creation of a real server', { command: 'newDestination', server: web, destination: pod }, ''],
    ['creation of what is there', { command: 'newDestination', server: web, destination: pod }, 'EEXIST'],
    [
      'real server 0.0.0.0',
      { command: 'newDestination', server: web, destination: { ...pod, ip: '0.0.0.0' } },
      'EINVAL',
    ],
    [
      'real server of the other family',
      { command: 'newDestination', server: web, destination: { ...pod, ip: 'fd00::2' } },
      'EINVAL',
    ],
    ['the largest weight', { command: 'setDestination', server: web, destination: { ...pod, weight: 0x7fffffff } }, ''],
    ['weight 0', { command: 'setDestination', server: web, destination: { ...pod, weight: 0 } }, ''],
    ['deletion of a real server', { command: 'deleteDestination', server: web, destination: pod }, ''],
    ['deletion with its virtual server', { command: 'deleteServer', server: web }, ''],
  ];
  for (const [name, request, code] of steps) t.equal(await outcome(request), code, name);
  t.strictSame(ipvs.realServers(web), [], 'no virtual server looks like no real servers');
  t.equal(ipvs.statistics(web), null);
  t.strictSame(await ipvs.servers(), []);
});

t.test('what is written is read, and ipvsadm agrees', { skip }, async (t) => {
  t.teardown(() => ipvs.flush());
  const { persistent, onePacket, fallback, port } = SERVER_FLAG;
  const servers: VirtualServer[] = [
    { ...web, flags: persistent, timeoutSeconds: 10800 },
    { ...web, protocol: 'UDP', ip: '10.96.0.10', port: 53, scheduler: 'wlc', flags: onePacket },
    { ...web, protocol: 'SCTP', ip: '10.96.0.11', port: 3868, scheduler: 'mh', flags: fallback | port },
    { ...web, family: 'IPv6', ip: 'fd00:96::1', port: 443, scheduler: 'sh', flags: persistent, timeoutSeconds: 60 },
  ];
  const ofWeb = [pod, { ip: '10.244.1.3', port: 8080, weight: 0 }];
  const ofSixth = { ip: 'fd00:10:244::2', port: 8443, weight: 3 };
  const requests: IpvsRequest[] = [
    ...servers.map((server) => ({ command: 'newServer', server }) as const),
    ...ofWeb.map((destination) => ({ command: 'newDestination', server: servers[0]!, destination }) as const),
    { command: 'newDestination', server: servers[3]!, destination: ofSixth },
  ];
  t.strictSame(await ipvs.apply(requests), []);
  t.strictSame((await ipvs.servers()).sort(byKey), [...servers].sort(byKey));
  t.strictSame(ipvs.realServers(servers[0]!).sort(byAddress), ofWeb.map(state));
  t.strictSame(ipvs.realServers(servers[3]!), [state(ofSixth)]);
  const found = readRealServers();
  t.strictSame([...found.keys()].sort(), servers.map(serverKey).sort());
  t.strictSame(found.get(serverKey(servers[0]!))!.sort(byAddress), ofWeb.map(state));
  t.strictSame(found.get(serverKey(servers[3]!)), [state(ofSixth)]);
  t.strictSame(ipvsadm('-S', '-n').trim().split('\n').sort(), [
    '-A --sctp-service 10.96.0.11:3868 -s mh -b mh-fallback,mh-port',
    '-A -t 10.96.0.1:80 -s rr -p 10800',
    '-A -t [fd00:96::1]:443 -s sh -p 60',
    '-A -u 10.96.0.10:53 -s wlc -o',
    '-a -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 1',
    '-a -t 10.96.0.1:80 -r 10.244.1.3:8080 -m -w 0',
    '-a -t [fd00:96::1]:443 -r [fd00:10:244::2]:8443 -m -w 3',
  ]);

  const changed = { ...servers[0]!, scheduler: 'wrr', flags: 0, timeoutSeconds: 0 };
  t.equal(await outcome({ command: 'setServer', server: changed }), '');
  t.strictSame(
    (await ipvs.servers()).find((server) => server.ip === web.ip),
    changed,
    'flags and timeout go',
  );
  t.strictSame(ipvs.realServers(changed).sort(byAddress), ofWeb.map(state), 'real servers stay');
  const none = { connections: 0n, packetsIn: 0n, packetsOut: 0n, bytesIn: 0n, bytesOut: 0n };
  t.strictSame(ipvs.statistics(changed), none);
});

t.test('what others made is read, and can be deleted', { skip }, async (t) => {
  t.teardown(() => ipvs.flush());
  ipvsadm('-A', '-t', '192.0.2.1:0', '-s', 'rr', '-p', '60');
  ipvsadm('-a', '-t', '192.0.2.1:0', '-r', '127.0.0.1:0', '-m');
  ipvsadm('-A', '-f', '7', '-s', 'rr');
  ipvsadm('-a', '-f', '7', '-r', '10.244.0.30', '-g');
  const [any, ...more] = await ipvs.servers();
  t.strictSame(more, [], 'the firewall mark is left out');
  t.match(any, { ip: '192.0.2.1', port: 0, flags: SERVER_FLAG.persistent, timeoutSeconds: 60 });
  t.strictSame(ipvs.realServers(any!), [state({ ip: '127.0.0.1', port: 0, weight: 1 })]);
  t.strictSame([...readRealServers().keys()], ['TCP 192.0.2.1:0']);
  const destination = { ip: '127.0.0.1', port: 0 };
  t.equal(await outcome({ command: 'deleteDestination', server: any!, destination }), '');
  t.equal(await outcome({ command: 'deleteServer', server: any! }), '');
  t.equal(ipvsadm('-S', '-n').trim().split('\n').length, 2, 'the firewall mark and its real server stay');
});

t.test('virtual servers of another network namespace', { skip }, async (t) => {
  t.teardown(() => ipvs.flush());
  const server = (n: number): VirtualServer => ({ ...web, ip: `10.97.${n >> 6}.${n & 63}` });
  const all = Array.from({ length: 300 }, (_, n) => server(n));
  const create = all.flatMap((server): IpvsRequest[] => [
    { command: 'newServer', server },
    { command: 'newDestination', server, destination: pod },
  ]);
  t.strictSame(await ipvs.apply(create), []);
  const name = `kp-ipvs-${process.pid}`;
  const ip = (...args: string[]) => t.equal(spawnSync('ip', args).status, 0, `ip ${args.join(' ')}`);
  ip('netns', 'add', name);
  t.teardown(() => spawnSync('ip', ['netns', 'delete', name]));
  const others = all.map(({ ip, port }) => `-A -t ${ip}:${port + 1} -s rr\n`).join('');
  const { status } = spawnSync('ip', ['netns', 'exec', name, 'ipvsadm', '-R'], { input: others });
  t.equal(status, 0);
  const listed = await ipvs.servers();
  t.equal(listed.length, 300, 'are not listed');
  const realServers = realServerReader(ipvs, listed.length);
  const found = listed.filter((server) => realServers(server).length === 1);
  t.equal(found.length, 300, 'and hide no real servers');
  t.comment(`the file has ${readRealServers().size} of 300 virtual servers`);
});

t.test('a batch with refusals in the middle', { skip }, async (t) => {
  t.teardown(() => ipvs.flush());
  const server = (n: number): VirtualServer => ({ ...web, ip: `10.97.${n >> 8}.${n & 255}` });
  const there = [5, 199, 200, 401, 449];
  t.strictSame(await ipvs.apply(there.map((n) => ({ command: 'newServer', server: server(n) }) as const)), []);
  const requests = Array.from({ length: 450 }, (_, n): IpvsRequest => ({ command: 'newServer', server: server(n) }));
  const failures = await ipvs.apply(requests);
  t.strictSame(
    failures.map(({ request, error }) => [requests.indexOf(request), error.code]),
    there.map((n) => [n, 'EEXIST']),
  );
  t.equal((await ipvs.servers()).length, 450, 'all others are there');
});

t.test('5,000 virtual servers with five real servers each', { skip }, async (t) => {
  t.teardown(() => ipvs.flush());
  const server = (n: number): VirtualServer => ({ ...web, ip: `10.${100 + (n >> 12)}.${(n >> 6) & 63}.${n & 63}` });
  const servers = Array.from({ length: 5000 }, (_, n) => server(n));
  const destinations = (n: number): RealServer[] =>
    [0, 1, 2, 3, 4].map((i) => ({ ip: `10.${200 + i}.${n >> 8}.${n & 255}`, port: 8080, weight: 1 }));
  const requests = servers.flatMap((s, n): IpvsRequest[] => [
    { command: 'newServer', server: s },
    ...destinations(n).map((destination) => ({ command: 'newDestination', server: s, destination }) as const),
  ]);
  let turns = 0;
  const count = setInterval(() => turns++, 1);
  t.teardown(() => clearInterval(count));
  const timed = async <T>(name: string, act: () => T | Promise<T>): Promise<T> => {
    const from = performance.now();
    const sentBefore = ipvs.messagesSent;
    turns = 0;
    const result = await act();
    const ms = Math.round(performance.now() - from);
    t.comment(`${name}: ${ms} ms, ${ipvs.messagesSent - sentBefore} messages, ${turns} turns of a timer`);
    return result;
  };

  t.strictSame(await timed('30,000 objects', () => ipvs.apply(requests)), []);
  t.ok(turns > 0, 'the event loop had turns');
  const found = await timed('list 5,000 virtual servers', () => ipvs.servers());
  t.strictSame(found.sort(byKey), [...servers].sort(byKey));
  const real = await timed('list 25,000 real servers', () => readRealServers());
  t.equal(real.size, 5000);
  const wrong = servers.filter((s, n) => {
    const list = real.get(serverKey(s)) ?? [];
    return JSON.stringify(list.sort(byAddress)) !== JSON.stringify(destinations(n).map(state));
  });
  t.strictSame(wrong, []);

  const before = ipvs.messagesSent;
  const change: IpvsRequest = {
    command: 'setDestination',
    server: server(77),
    destination: { ...destinations(77)[2]!, weight: 0 },
  };
  t.strictSame(await timed('one weight', () => ipvs.apply([change])), []);
  t.equal(ipvs.messagesSent - before, 1, 'one change is one message');
  const weights = ipvs.realServers(server(77)).sort(byAddress);
  t.strictSame(
    weights.map((d) => d.weight),
    [1, 1, 0, 1, 1],
  );

  const half = servers.slice(0, 2500).map((s) => ({ command: 'deleteServer', server: s }) as const);
  t.strictSame(await timed('delete 2,500 virtual servers', () => ipvs.apply(half)), []);
  t.equal((await ipvs.servers()).length, 2500);
  await timed('flush', () => ipvs.flush());
  t.strictSame(await ipvs.servers(), []);
  t.equal(readRealServers().size, 0);
});
