// The process that runs in a host's network namespace: servers that say who they are, clients that say who answered.
// Started by host.ts with the host's name as argument; it ends with the test's process.
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { attempt, type Exchange, openExchange } from './attempt.ts';
import type {
  Attempt,
  CallName,
  CallOptions,
  CallResult,
  ConnectOptions,
  ListenOptions,
  Request,
} from './host-calls.ts';
import { Load } from './load.ts';

const host = process.argv[2] ?? '';
const BACKLOG = 4096;

interface Server {
  readonly port: number;
  close(cut: boolean): void;
}

const servers = new Map<string, Server>();
const flows = new Map<number, Exchange>();
const loads = new Map<number, Load>();
let lastId = 0;

const line = (port: number, peer: string | undefined, peerPort: number | undefined): string =>
  `${JSON.stringify({ host, port, peer, peerPort })}\n`;

async function listenTcp({ ip, port, closes }: ListenOptions): Promise<Server> {
  const sockets = new Set<net.Socket>();
  let bound = port;
  const server = net.createServer({ noDelay: true }, (socket) => {
    const text = line(bound, socket.remoteAddress, socket.remotePort);
    // Clients end with a reset.
    socket.on('error', () => socket.destroy());
    if (closes) {
      socket.end(text);
      socket.resume();
      return;
    }
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.write(text);
    socket.on('data', (bytes) => {
      for (const byte of bytes) if (byte === 10) socket.write(text);
    });
  });
  server.listen({ host: ip, port, backlog: BACKLOG, ipv6Only: ip.includes(':') });
  await once(server, 'listening');
  const address = server.address();
  if (address !== null && typeof address !== 'string') bound = address.port;
  return {
    port: bound,
    close(cut) {
      server.close();
      if (cut) for (const socket of sockets) socket.resetAndDestroy();
    },
  };
}

async function listenUdp({ ip, port }: ListenOptions): Promise<Server> {
  const socket = dgram.createSocket({
    type: ip.includes(':') ? 'udp6' : 'udp4',
    ipv6Only: ip.includes(':'),
    recvBufferSize: 1 << 20,
  });
  let bound = port;
  socket.on('message', (_, peer) => {
    // A peer that is gone is no failure of this server.
    socket.send(line(bound, peer.address, peer.port), peer.port, peer.address, () => undefined);
  });
  socket.bind(port, ip);
  await once(socket, 'listening');
  socket.on('error', () => undefined);
  bound = socket.address().port;
  return { port: bound, close: () => socket.close() };
}

const serverKey = (proto: string, ip: string, port: number): string => `${proto} ${ip} ${port}`;

function known<T>(map: ReadonlyMap<number, T>, id: number, what: string): T {
  const found = map.get(id);
  if (found === undefined) throw new Error(`${host}: no ${what} ${id}`);
  return found;
}

const nextAnswer = (exchange: Exchange, send: boolean, timeoutMs?: number): Promise<Attempt> =>
  new Promise((resolve) => exchange.next(send, timeoutMs, resolve));

function connect(options: ConnectOptions): Promise<Attempt[]> {
  const count = options.count ?? 1;
  const results: Attempt[] = [];
  return new Promise((resolve) => {
    let started = 0;
    const next = (): void => {
      if (started === count) return;
      const index = started++;
      attempt(options, (result) => {
        results[index] = result;
        if (++ended === count) resolve(results);
        else next();
      });
    };
    let ended = 0;
    for (let i = 0; i < (options.width ?? 1); i++) next();
  });
}

const calls: { [K in CallName]: (options: CallOptions<K>) => CallResult<K> | Promise<CallResult<K>> } = {
  async listen(options) {
    const server = await (options.proto === 'TCP' ? listenTcp(options) : listenUdp(options));
    servers.set(serverKey(options.proto, options.ip, server.port), server);
    return { port: server.port };
  },
  unlisten({ proto, ip, port, cut }) {
    const key = serverKey(proto, ip, port);
    const server = servers.get(key);
    if (!server) throw new Error(`${host}: no server at ${key}`);
    servers.delete(key);
    server.close(cut ?? false);
    return null;
  },
  connect,
  async open(target) {
    const flow = ++lastId;
    const exchange = openExchange(target);
    flows.set(flow, exchange);
    return { flow, first: await nextAnswer(exchange, target.proto === 'UDP') };
  },
  say({ flow, timeoutMs }) {
    return nextAnswer(known(flows, flow, 'flow'), true, timeoutMs);
  },
  close({ flow }) {
    known(flows, flow, 'flow').close();
    flows.delete(flow);
    return null;
  },
  startLoad(options) {
    if (options.targets.length === 0) throw new Error(`${host}: a load without targets`);
    const load = ++lastId;
    loads.set(load, new Load(options));
    return { load };
  },
  loadCounters({ load }) {
    return known(loads, load, 'load').counters();
  },
  stopLoad({ load }) {
    const found = known(loads, load, 'load');
    loads.delete(load);
    return found.stop();
  },
};

process.on('disconnect', () => process.exit(0));
process.on('message', async ({ id, call, options }: Request) => {
  try {
    // The caller's types pair name and options; here they have come through a channel.
    const act = calls[call] as (options: unknown) => unknown;
    process.send!({ id, value: await act(options) });
  } catch (error) {
    process.send!({ id, error: `${host}: ${call}: ${error instanceof Error ? error.message : error}` });
  }
});
