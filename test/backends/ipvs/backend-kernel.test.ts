// The backend alone against IPVS of the kernel: what it writes, how little a change costs, what becomes of refusals, of
// leftovers, and of real servers that leave while they have connections.
import { spawnSync } from 'node:child_process';
import net from 'node:net';
import t from 'tap';
import { type IpvsOptions, openIpvs } from '../../../backends/ipvs/open.ts';
import type { IpvsSettings } from '../../../backends/ipvs/settings.ts';
import type { Endpoint, NodeSettings, ServicePlan } from '../../../backends/service-plan.ts';
import { ipvsMissing } from '../../support/ipvs-node.ts';
import { createNamespaces, ipBatch, namespaceName, within } from '../../support/namespaces.ts';
import { EventLog, enterNamespace, nft } from '../../support/own-namespace.ts';
import { changeTo, endpoint, endpoints, portPlan, SETTINGS, servicePlan } from '../../support/plans.ts';
import { until } from '../../support/test-node.ts';

const skip = await ipvsMissing();
const POD = '10.128.9.1';
const PORT = 8080;
const sockets = new Set<net.Socket>();
t.setTimeout(240_000);

if (skip === false) {
  // A pod behind a veth pair, which answers each byte with one.
  createNamespaces(['pod']);
  const server = net.createServer((socket) => {
    sockets.add(socket.on('error', () => {}));
    socket.write('.');
    socket.on('data', () => socket.write('.'));
  });
  within('pod', () => server.listen(PORT).unref());
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  await enterNamespace(t);
  ipBatch([`link add pod0 netns ${namespaceName('node')} type veth peer name eth0 netns ${namespaceName('pod')}`]);
  ipBatch(['link set pod0 up', 'addr add 10.128.9.254/24 dev pod0'], 'node');
  ipBatch(['link set eth0 up', `addr add ${POD}/24 dev eth0`, 'route add default via 10.128.9.254'], 'pod');
}

function run(program: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  if (error) throw error;
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr.trim()}`);
  return stdout;
}

const ipvsadm = (command: string): string => run('ipvsadm', ...command.split(' '));
const saved = (): string[] =>
  ipvsadm('-S -n')
    .trim()
    .split('\n')
    .filter((line) => line !== '')
    .sort();
const bound = (): string[] => run('ip', '-br', 'addr', 'show', 'kube-ipvs0').trim().split(/\s+/).slice(2).sort();

const IPVS: IpvsSettings = {
  scheduler: 'rr',
  excludeCidrs: [],
  strictArp: false,
  tcpTimeoutSeconds: 0,
  tcpFinTimeoutSeconds: 0,
  udpTimeoutSeconds: 0,
  drainLimitSeconds: null,
};

interface Teardown {
  teardown(act: () => unknown): unknown;
}

/** A backend that looks at nothing by itself unless it is told to; what it did goes with the test. */
function opened(t: Teardown, settings: Partial<IpvsSettings> = {}, options: Partial<IpvsOptions> = {}) {
  const events = new EventLog();
  const ipvs = { ...IPVS, ...settings };
  const backend = openIpvs({ events, settings: ipvs, checkMs: null, tickMs: 3_600_000, ...options });
  t.teardown(async () => {
    await backend.cleanup();
    await backend.close();
  });
  return { backend, events };
}

const web = (cluster: readonly Endpoint[]): ServicePlan =>
  servicePlan('web', [
    portPlan({
      portName: 'http',
      cluster,
      frontends: [
        { kind: 'clusterIP', ip: '10.96.0.1', port: 80 },
        { kind: 'nodePort', ip: null, port: 30080 },
        { kind: 'loadBalancer', ip: '198.18.0.1', port: 80 },
      ],
      sourceRanges: ['203.0.113.0/24'],
    }),
  ]);
const dns = servicePlan('dns', [
  portPlan({
    protocol: 'UDP',
    cluster: endpoints(2, 10),
    affinitySeconds: 100,
    frontends: [{ kind: 'clusterIP', ip: '10.96.0.10', port: 53 }],
  }),
]);
const web6 = servicePlan(
  'web6',
  [portPlan({ cluster: endpoints(2, 10, 'IPv6'), frontends: [{ kind: 'clusterIP', ip: 'fd00:10:96::1', port: 80 }] })],
  'IPv6',
);
const none = { added: 0, deleted: 0, objects: 0, transactions: 0, bytes: 0 };

t.test('what is written, and how little a change costs', { skip }, async (t) => {
  const { backend, events } = opened(t);
  await backend.probe();
  const { refused } = await backend.start(SETTINGS, [web(endpoints(3)), dns, web6]);
  t.strictSame(refused, []);
  const dump = (): string[] => backend.dump().split('\n');
  const servers = (): string[] =>
    dump()
      .filter((line) => line.startsWith('-'))
      .sort();
  t.strictSame(servers(), saved(), 'as ipvsadm -S -n');
  t.equal(servers().length, 5 + 3 * 3 + 2 + 2, 'virtual and real servers');
  t.ok(saved().includes('-A -u 10.96.0.10:53 -s rr -p 100'));
  t.ok(saved().includes('-a -t 192.0.2.11:30080 -r 10.128.0.1:8080 -m -w 1'));
  t.strictSame(bound(), ['10.96.0.1/32', '10.96.0.10/32', '198.18.0.1/32', 'fd00:10:96::1/128'].sort());
  t.equal(await backend.dumpKernel(), backend.dump(), 'the kernel has what was applied');
  t.equal(await backend.verify(), null);
  t.match(await backend.sync([changeTo(web(endpoints(3))), changeTo(dns)]), { counts: none }, 'nothing changed');

  const one = await backend.sync([changeTo(web(endpoints(4)))]);
  t.strictSame(
    one,
    { counts: { ...none, added: 3, transactions: 1 }, refused: [] },
    'a new endpoint: one message a frontend',
  );
  // Weight 0 first, so that no connection begins in between; then it goes.
  const replaced = await backend.sync([changeTo(web(endpoints(4, 2)))]);
  t.strictSame(
    replaced,
    { counts: { ...none, added: 6, deleted: 3, transactions: 1 }, refused: [] },
    'an endpoint replaced',
  );
  const udp = servicePlan('dns', [{ ...dns.ports[0]!, cluster: endpoints(1, 10) }]);
  t.match(await backend.sync([changeTo(udp)]), { counts: { added: 0, deleted: 1 } }, 'UDP: removed at once');
  await backend.sync([{ service: 'shop/dns', family: 'IPv4', plan: null }]);
  t.notMatch(saved().join('\n'), '10.96.0.10');
  t.notOk(bound().includes('10.96.0.10/32'));
  t.equal(await backend.dumpKernel(), backend.dump());
  t.match(backend.dump('shop/web6'), /^-A -t \[fd00:10:96::1\]:80 -s rr\n/);
  const untilTables = (text: string): string => text.slice(0, text.indexOf('table '));
  t.equal(untilTables(await backend.dumpKernel('shop/web6')), untilTables(backend.dump('shop/web6')), 'one Service');

  const moved: NodeSettings = {
    ...SETTINGS,
    families: { ...SETTINGS.families, IPv4: { ...SETTINGS.families.IPv4!, nodePortAddresses: ['192.0.2.12'] } },
  };
  t.match(await backend.configure(moved), { counts: { added: 5, deleted: 1 } }, 'node ports move with the node');
  t.match(saved().join('\n'), '192.0.2.12:30080');
  t.notMatch(saved().join('\n'), '192.0.2.11:30080');
  t.strictSame(events.errors, []);

  await t.test('a second start with nothing changed sends nothing', async (t) => {
    const next = openIpvs({ events, settings: IPVS, checkMs: null });
    t.match(await next.start(moved, [web(endpoints(4, 2)), web6]), { counts: none, refused: { length: 0 } });
    await next.close();
  });

  t.match(await backend.cleanup(), [
    'interface kube-ipvs0',
    '4 virtual servers of IPVS',
    'nftables table ip kubeplumb-ipvs',
    'nftables table ip6 kubeplumb-ipvs',
  ]);
  t.strictSame(saved(), []);
  t.equal(run('ip', '-br', 'link').includes('kube-ipvs0'), false);
  t.equal(nft('list', 'tables').trim(), '');
});

t.test('refusals concern one Service', { skip }, async (t) => {
  const unknown = openIpvs({ events: new EventLog(), settings: { ...IPVS, scheduler: 'nope' }, checkMs: null });
  await t.rejects(unknown.probe(), { message: 'this kernel has no IPVS scheduler nope (module ip_vs_nope)' });
  await unknown.close();

  const { backend } = opened(t);
  const bad = (...cluster: Endpoint[]): ServicePlan =>
    servicePlan('bad', [portPlan({ cluster, frontends: [{ kind: 'clusterIP', ip: '10.96.0.66', port: 80 }] })]);
  const first = await backend.start(SETTINGS, [bad(endpoint('0.0.0.0'), endpoint('10.128.0.9')), web(endpoints(2))]);
  t.match(first.refused, [{ service: 'shop/bad', family: 'IPv4', message: /0\.0\.0\.0:8080.*EINVAL/ }]);
  t.equal(first.refused.length, 1);
  t.ok(saved().includes('-a -t 10.96.0.66:80 -r 10.128.0.9:8080 -m -w 1'), 'its other endpoint serves');
  t.ok(saved().includes('-a -t 10.96.0.1:80 -r 10.128.0.1:8080 -m -w 1'), 'other Services serve');
  const multicast = await backend.sync([changeTo(bad(endpoint('224.0.0.9'))), changeTo(web(endpoints(3)))]);
  t.match(multicast.refused, [{ service: 'shop/bad', message: /224\.0\.0\.9:8080/ }]);
  t.ok(saved().includes('-a -t 10.96.0.1:80 -r 10.128.0.3:8080 -m -w 1'));
  t.match(
    await backend.sync([changeTo(bad(endpoint('10.128.0.9')))]),
    { refused: { length: 0 } },
    'and when it is put right',
  );
  t.equal(await backend.dumpKernel(), backend.dump());
  t.equal(await backend.verify(), null);
});

t.test('leftovers of another process are taken over', { skip }, async (t) => {
  run('ip', 'link', 'add', 'kube-ipvs0', 'type', 'dummy');
  run('ip', 'addr', 'add', '10.96.0.99/32', 'dev', 'kube-ipvs0');
  run('ip', 'addr', 'add', '10.96.0.1/32', 'dev', 'kube-ipvs0');
  for (const command of [
    '-A -t 10.96.0.1:80 -s wrr',
    '-a -t 10.96.0.1:80 -r 10.128.0.1:8080 -m -w 0',
    '-a -t 10.96.0.1:80 -r 10.128.0.2:8080 -m -w 7',
    '-a -t 10.96.0.1:80 -r 10.128.0.77:8080 -m -w 1',
    '-a -t 10.96.0.1:80 -r 10.128.0.78:8080 -m -w 0',
    '-A -t 10.96.0.99:80 -s rr',
    '-a -t 10.96.0.99:80 -r 10.128.0.1:8080 -m -w 1',
    '-A -t 203.0.113.7:443 -s lc',
    '-a -t 203.0.113.7:443 -r 10.0.0.1:443 -m -w 5',
  ])
    ipvsadm(command);
  const { backend } = opened(t, { excludeCidrs: ['203.0.113.0/24'] });
  await backend.start(SETTINGS, [web(endpoints(2))]);
  const lines = saved();
  t.ok(lines.includes('-A -t 10.96.0.1:80 -s rr'), 'the scheduler is ours');
  t.strictSame(
    lines.filter((line) => line.startsWith('-a -t 10.96.0.1:80')),
    ['-a -t 10.96.0.1:80 -r 10.128.0.1:8080 -m -w 1', '-a -t 10.96.0.1:80 -r 10.128.0.2:8080 -m -w 1'],
    'weights are 1 again, others are gone',
  );
  t.notMatch(lines.join('\n'), '10.96.0.99', 'an unwanted virtual server goes');
  t.ok(lines.includes('-a -t 203.0.113.7:443 -r 10.0.0.1:443 -m -w 5'), 'one in an excluded range stays');
  t.strictSame(bound(), ['10.96.0.1/32', '198.18.0.1/32']);
  t.equal(await backend.verify(), null);
  await backend.cleanup();
  t.strictSame(
    saved().map((line) => line.split(' ')[2]),
    ['203.0.113.7:443', '203.0.113.7:443'],
    'also when cleaning up',
  );
  ipvsadm('-C');
});

t.test('what others change is found and put right', { skip }, async (t) => {
  const { backend } = opened(t);
  await backend.start(SETTINGS, [web(endpoints(2)), dns, web6]);
  const intact = [...saved(), ...bound()];
  const damages: [string, () => unknown, RegExp][] = [
    ['all virtual servers deleted', () => ipvsadm('-C'), /^5 virtual servers changed, such as /],
    [
      'a real server deleted',
      () => ipvsadm('-d -t 10.96.0.1:80 -r 10.128.0.1:8080'),
      /^1 virtual servers changed, such as TCP 10.96.0.1:80$/,
    ],
    ['a weight', () => ipvsadm('-e -t 10.96.0.1:80 -r 10.128.0.1:8080 -m -w 0'), /^1 virtual servers changed/],
    ['a real server added', () => ipvsadm('-a -t 10.96.0.1:80 -r 10.9.9.9:80 -m -w 3'), /^1 virtual servers changed/],
    ['a scheduler', () => ipvsadm('-E -t 10.96.0.1:80 -s lc'), /^1 virtual servers changed/],
    ['persistence', () => ipvsadm('-E -u 10.96.0.10:53 -s rr'), /such as UDP 10.96.0.10:53$/],
    ['a virtual server added', () => ipvsadm('-A -t 1.2.3.4:99 -s rr'), /such as TCP 1.2.3.4:99$/],
    ['the interface deleted', () => run('ip', 'link', 'del', 'kube-ipvs0'), /^4 addresses of kube-ipvs0 changed/],
    [
      'an address deleted',
      () => run('ip', 'addr', 'del', '10.96.0.1/32', 'dev', 'kube-ipvs0'),
      /^1 addresses of kube-ipvs0 changed, such as 10.96.0.1$/,
    ],
    ['an address added', () => run('ip', 'addr', 'add', '10.99.9.9/32', 'dev', 'kube-ipvs0'), /such as 10.99.9.9$/],
  ];
  for (const [what, damage, description] of damages) {
    damage();
    t.match(await backend.verify(), { description }, what);
    t.strictSame([...saved(), ...bound()], intact, `${what}: as before`);
    t.equal(await backend.verify(), null, `${what}: nothing more`);
  }
  // The next change meets what somebody else did before any check has.
  ipvsadm('-D -t 10.96.0.1:80');
  t.strictSame((await backend.sync([changeTo(web(endpoints(4)))])).refused, [], 'a virtual server was gone');
  ipvsadm('-D -t 10.96.0.1:80');
  t.strictSame((await backend.sync([changeTo(web(endpoints(2)))])).refused, [], 'and again');
  ipvsadm('-a -t 10.96.0.1:80 -r 10.128.0.3:8080 -m -w 9');
  t.strictSame((await backend.sync([changeTo(web(endpoints(3)))])).refused, [], 'a real server was there');
  await backend.verify();
  t.equal(await backend.dumpKernel(), backend.dump());
  // The companion is watched.
  nft('flush', 'set', 'ip', 'kubeplumb-ipvs', 'cluster');
  await until('the set is filled again', () =>
    nft('list', 'set', 'ip', 'kubeplumb-ipvs', 'cluster').includes('10.96.0.1'),
  );
});

t.test('one family', { skip }, async (t) => {
  ipvsadm('-A -t [fd00::99]:80 -s rr');
  const { backend } = opened(t);
  await backend.start({ ...SETTINGS, families: { IPv4: SETTINGS.families.IPv4! } }, [web(endpoints(2)), web6]);
  t.notMatch(saved().join('\n'), 'fd00:10:96::1');
  t.ok(saved().includes('-A -t [fd00::99]:80 -s rr'), 'the other family is left alone');
  t.equal(nft('list', 'tables').trim(), 'table ip kubeplumb-ipvs');
  t.equal(await backend.verify(), null);
  ipvsadm('-C');
});

// ---- draining

/** A connection through a virtual server. */
class Connection {
  readonly socket: net.Socket;
  #waiting: ((how: string) => void) | null = null;

  constructor(ip: string) {
    this.socket = net.connect(80, ip);
    this.socket.on('data', () => this.#ends('answered'));
    this.socket.on('error', (error: NodeJS.ErrnoException) => this.#ends(error.code ?? 'error'));
    this.socket.on('close', () => this.#ends('closed'));
  }

  #ends(how: string): void {
    this.#waiting?.(how);
    this.#waiting = null;
  }

  /** How the next exchange ends. */
  answer(): Promise<string> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#ends('silence'), 5000);
      this.#waiting = (how) => {
        clearTimeout(timer);
        resolve(how);
      };
    });
  }

  say(): Promise<string> {
    const answer = this.answer();
    this.socket.write('.');
    return answer;
  }

  static async open(t: Teardown, ip: string): Promise<Connection> {
    const connection = new Connection(ip);
    t.teardown(() => connection.socket.destroy());
    const how = await connection.answer();
    if (how !== 'answered') throw new Error(`${ip}: ${how}`);
    return connection;
  }
}

const pod = endpoint(POD, PORT, true);
const other = endpoint('10.128.9.77', PORT, true);
const VIP = '10.96.0.20';
const held = (...cluster: Endpoint[]): ServicePlan =>
  servicePlan('held', [portPlan({ cluster, frontends: [{ kind: 'clusterIP', ip: VIP, port: 80 }] })]);
/** `WEIGHT ACTIVE INACTIVE` of the pod, or 'gone'. */
function podState(): string {
  const line = ipvsadm('-Ln')
    .split('\n')
    .find((text) => text.includes(`${POD}:${PORT}`));
  return line?.trim().split(/\s+/).slice(3).join(' ') ?? 'gone';
}

t.test('a real server drains', { skip }, async (t) => {
  const { backend, events } = opened(t, {}, { tickMs: 200 });
  await backend.start(SETTINGS, [held(pod)]);
  const connection = await Connection.open(t, VIP);
  t.equal(podState(), '1 1 0');
  await backend.sync([changeTo(held(other))]);
  t.equal(podState(), '0 1 0', 'it stays while it has a connection');
  t.equal(await connection.say(), 'answered');
  await new Promise((resolve) => setTimeout(resolve, 1000));
  t.equal(podState(), '0 1 0', 'at each look');
  t.equal(await backend.verify(), null, 'which is no damage');
  t.equal(await connection.say(), 'answered');

  await t.test('across a restart', async (t) => {
    await backend.close();
    const next = openIpvs({ events, settings: IPVS, checkMs: null, tickMs: 3_600_000 });
    t.match(await next.start(SETTINGS, [held(other)]), { counts: none });
    t.equal(podState(), '0 1 0');
    t.equal(await connection.say(), 'answered');
    await next.close();
    // Wanted again meanwhile (kubernetes #92019, #108319).
    const third = openIpvs({ events, settings: IPVS, checkMs: null, tickMs: 200 });
    await third.start(SETTINGS, [held(pod, other)]);
    t.equal(podState(), '1 1 0', 'one that is wanted again takes connections');
    t.equal(await connection.say(), 'answered');
    await third.sync([changeTo(held(other))]);
    t.equal(podState(), '0 1 0');
    await third.sync([changeTo(held(pod, other))]);
    t.match(podState(), /^1 /, 'the same without a restart');
    t.comment(`the connection of one that came back while it drained: ${await connection.say()}`);
    const second = await Connection.open(t, VIP).catch(() => Connection.open(t, VIP));
    await third.sync([changeTo(held(other))]);
    t.match(podState(), /^0 [12] 0$/);
    const began = performance.now();
    second.socket.resetAndDestroy();
    connection.socket.resetAndDestroy();
    await until('the drained real server is removed', () => podState() === 'gone', 60_000);
    t.comment(`removed ${Math.round(performance.now() - began)} ms after its last connection was reset`);
    t.equal(await third.dumpKernel(), third.dump());
    await third.close();
  });
  t.strictSame(events.errors, []);
});

t.test('a limit for draining', { skip }, async (t) => {
  const { backend } = opened(t, { drainLimitSeconds: 2 }, { tickMs: 200 });
  await backend.start(SETTINGS, [held(pod)]);
  const connection = await Connection.open(t, VIP);
  await backend.sync([changeTo(held(other))]);
  const began = performance.now();
  t.equal(podState(), '0 1 0');
  await until('the limit has passed', () => podState() === 'gone');
  const ms = Math.round(performance.now() - began);
  t.ok(ms > 1500, `gone after ${ms} ms`);
  t.comment(`its connection: ${await connection.say()}`);
});
