// The order of steps: an address leads to IPVS only while its filters and its virtual server are there, so it is bound
// last and goes first. And what becomes of steps that fail.
import t, { type Test } from 'tap';
import { IpvsBackend, type IpvsMachinery } from '../../../backends/ipvs/backend.ts';
import { BoundAddresses } from '../../../backends/ipvs/bound-addresses.ts';
import type { CompanionTables } from '../../../backends/ipvs/companion-tables.ts';
import type { Touched } from '../../../backends/ipvs/ledger.ts';
import { VirtualServers } from '../../../backends/ipvs/virtual-servers.ts';
import { OutcomeUnknown, TransactionRefused } from '../../../backends/nft-table/committer.ts';
import type { Endpoint, ServicePlan } from '../../../backends/service-plan.ts';
import { ipBytes } from '../../../native/ip.ts';
import { type RealServerState, type ServerId, serverKey, type VirtualServer } from '../../../native/ipvs/objects.ts';
import type { IpvsRequest } from '../../../native/ipvs/requests.ts';
import { NetlinkError } from '../../../native/netlink/error.ts';
import type { RouteWriter } from '../../../native/route/writer.ts';
import { EventLog } from '../../support/own-namespace.ts';
import { changeTo, endpoints, portPlan, SETTINGS, servicePlan } from '../../support/plans.ts';
import { until } from '../../support/test-node.ts';

const ESRCH = 3;
const EINVAL = 22;
const IP = '10.96.0.1';
const web = (cluster: readonly Endpoint[], ip = IP): ServicePlan =>
  servicePlan('web', [portPlan({ cluster, frontends: [{ kind: 'clusterIP', ip, port: 80 }] })]);

/** Writes down what it is asked for; connections of real servers as a test says. */
class Kernel {
  steps: string[] = [];
  connections = new Map<string, number>();
  /** Addresses, as bytes, whose ports without a Service are refused. */
  readonly vips = new Set<string>();
  refusesElements: (touched: Touched['elements']) => Error | null = () => null;
  refuses: (request: IpvsRequest) => boolean = () => false;
  readonly #servers = new Map<string, VirtualServer>();
  readonly #real = new Map<string, Map<string, RealServerState>>();

  taken(): string[] {
    return this.steps.splice(0);
  }

  /** @returns the kernel's refusal, or null */
  #one(request: IpvsRequest): NetlinkError | null {
    const { command, server } = request;
    const key = serverKey(server);
    const real = this.#real.get(key);
    if (this.refuses(request)) return new NetlinkError('test', EINVAL, 'refused');
    if (command !== 'newServer' && real === undefined) return new NetlinkError('test', ESRCH);
    const weight = request.command === 'newDestination' || request.command === 'setDestination';
    const what = 'destination' in request ? request.destination.ip : server.ip;
    this.steps.push(`${command} ${what}${weight ? ` ${request.destination.weight}` : ''}`);
    if (command === 'newServer') {
      this.#servers.set(key, request.server);
      this.#real.set(key, new Map());
    }
    if (command === 'deleteServer') this.lose(key);
    if (request.command === 'deleteDestination') real!.delete(what);
    if (weight) real!.set(what, { ...request.destination, active: 0, inactive: 0 });
    return null;
  }

  lose(key: string): void {
    this.#servers.delete(key);
    this.#real.delete(key);
  }

  machinery(): IpvsMachinery {
    const ipvs = {
      apply: async (requests: readonly IpvsRequest[]) => {
        const failures = [];
        for (const request of requests) {
          const error = this.#one(request);
          if (error) failures.push({ request, error });
        }
        return failures;
      },
      servers: async () => [...this.#servers.values()],
      realServers: (server: ServerId) =>
        [...(this.#real.get(serverKey(server))?.values() ?? [])].map((real) => ({
          ...real,
          active: this.connections.get(real.ip) ?? 0,
        })),
    };
    const told = (verb: string, ips: readonly string[]) => {
      for (const ip of ips) this.steps.push(`${verb} ${ip}`);
      return Promise.resolve([]);
    };
    const route: Partial<RouteWriter> = {
      linkIndex: () => 7,
      addresses: () => [],
      addAddresses: (_, ips) => told('bind', ips),
      deleteAddresses: (_, ips) => told('unbind', ips),
    };
    const companion: Partial<CompanionTables> = {
      read: async () => {},
      unwanted: () => new Map(),
      applyStructure: async () => void this.steps.push('tables'),
      difference: () => null,
      update: async (touched, ledgers) => {
        for (const elements of touched.values()) {
          const error = this.refusesElements(elements);
          if (error) throw error;
        }
        this.steps.push('elements');
        for (const key of touched.get('IPv4')?.get('vips') ?? []) {
          if (ledgers.get('IPv4')!.element('vips', key)) this.vips.add(key);
          else this.vips.delete(key);
        }
      },
    };
    return {
      servers: new VirtualServers({
        ipvs,
        readRealServers: () => new Map(),
        settings: { excludeCidrs: [], drainLimitSeconds: null },
        nowMs: () => 0,
      }),
      addresses: new BoundAddresses(route as RouteWriter),
      companion: companion as CompanionTables,
      openForward: async () => null,
      watch: { start() {}, stop() {} },
      close() {},
    };
  }
}

async function started(t: Pick<Test, 'teardown'>, plans: readonly ServicePlan[]) {
  const kernel = new Kernel();
  const events = new EventLog();
  const settings = {
    scheduler: 'rr',
    excludeCidrs: [],
    strictArp: false,
    tcpTimeoutSeconds: 0,
    tcpFinTimeoutSeconds: 0,
    udpTimeoutSeconds: 0,
    drainLimitSeconds: null,
  };
  const backend = new IpvsBackend({
    events,
    settings,
    open: () => kernel.machinery(),
    probe: async () => {},
    prepare: () => void kernel.steps.push('prepare'),
    dumpKernel: async () => '',
    cleanup: async () => [],
    checkMs: null,
    tickMs: 10,
  });
  t.teardown(() => backend.close());
  const { refused } = await backend.start({ ...SETTINGS, families: { IPv4: SETTINGS.families.IPv4! } }, plans);
  return { kernel, events, backend, refused };
}

t.test('one change after another', async (t) => {
  const { kernel, events, backend } = await started(t, [web(endpoints(2))]);
  t.strictSame(
    kernel.taken(),
    [
      'prepare',
      'tables',
      'elements',
      `newServer ${IP}`,
      'newDestination 10.128.0.1 1',
      'newDestination 10.128.0.2 1',
      `bind ${IP}`,
    ],
    'start: filters, virtual server with its real servers, address',
  );

  const sync = async (plan: ServicePlan) => {
    const { refused } = await backend.sync([changeTo(plan)]);
    return { refused, steps: kernel.taken().filter((step) => step !== 'elements') };
  };
  t.strictSame(
    (await sync(web(endpoints(2, 2)))).steps,
    ['newDestination 10.128.0.3 1', 'setDestination 10.128.0.1 0', 'deleteDestination 10.128.0.1'],
    'who comes is there before who leaves goes',
  );
  kernel.connections.set('10.128.0.4', 3);
  t.strictSame((await sync(web(endpoints(2, 3)))).steps, [
    'newDestination 10.128.0.4 1',
    'setDestination 10.128.0.2 0',
    'deleteDestination 10.128.0.2',
  ]);
  t.strictSame((await sync(web(endpoints(1, 3)))).steps, ['setDestination 10.128.0.4 0'], 'one with connections stays');
  t.strictSame((await sync(web(endpoints(1, 3)))).steps, [], 'and costs no more');

  await backend.sync([changeTo(web(endpoints(1, 3), '10.96.0.2'))]);
  t.strictSame(
    kernel.taken(),
    ['setDestination 10.128.0.3 0', 'elements', 'newServer 10.96.0.2', 'newDestination 10.128.0.3 1', 'bind 10.96.0.2'],
    'another address: the old one stays for its connections, and gets no new ones',
  );
  t.ok(kernel.vips.has(ipBytes(IP)!), 'and its other ports do not lead to listeners of the host');
  kernel.connections.clear();
  await until('they have ended', () => kernel.steps.includes(`deleteServer ${IP}`));
  const last = kernel.taken().filter((step) => step !== 'elements');
  t.strictSame(last, [`unbind ${IP}`, `deleteServer ${IP}`], 'the address goes first, its virtual server last');
  t.notOk(kernel.vips.has(ipBytes(IP)!));

  kernel.refuses = ({ command }) => command === 'newServer';
  const { refused, steps } = await sync(web(endpoints(1), '10.96.0.3'));
  t.match(refused, [{ service: 'shop/web' }]);
  t.notOk(steps.includes('bind 10.96.0.3'));
  kernel.refuses = () => false;
  t.strictSame(
    (await sync(web(endpoints(1), '10.96.0.3'))).steps,
    ['newServer 10.96.0.3', 'newDestination 10.128.0.1 1', 'bind 10.96.0.3'],
    'the next try binds it',
  );

  await backend.sync([{ service: 'shop/web', family: 'IPv4', plan: null }]);
  t.strictSame(kernel.taken(), ['unbind 10.96.0.3', 'elements', 'deleteServer 10.96.0.3']);
  t.strictSame(events.errors, []);
});

t.test('a removal that fails is not forgotten', async (t) => {
  const { kernel, backend } = await started(t, [web(endpoints(1))]);
  kernel.taken();
  const gone = [{ service: 'shop/web', family: 'IPv4', plan: null }] as const;
  kernel.refusesElements = () => new OutcomeUnknown();
  await t.rejects(backend.sync(gone), OutcomeUnknown);
  t.notOk(kernel.taken().includes(`deleteServer ${IP}`));
  kernel.refusesElements = () => null;
  await backend.sync(gone);
  t.ok(kernel.taken().includes(`deleteServer ${IP}`), 'the next try knows of it');
});

t.test('elements of one Service that are refused', async (t) => {
  const other = servicePlan('other', [
    portPlan({ cluster: endpoints(1), frontends: [{ kind: 'clusterIP', ip: '10.96.0.2', port: 80 }] }),
  ]);
  const { kernel, backend, events } = await started(t, [web(endpoints(1)), other]);
  kernel.taken();
  const refuse = (ip: string) => (touched: Touched['elements']) =>
    touched.get('vips')?.has(ipBytes(ip)!)
      ? new TransactionRefused([
          { errno: 12, code: 'ENOMEM', message: 'no memory', family: null, set: null, key: null, index: 0 },
        ])
      : null;
  kernel.refusesElements = refuse(IP);
  kernel.lose('TCP 10.96.0.2:80');
  t.ok(await backend.verify(), 'what another Service has lost');
  t.ok(kernel.taken().includes('newServer 10.96.0.2'), 'is repaired all the same');
  t.match(events.errors, [/no memory/]);
});
