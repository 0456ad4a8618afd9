// The process in a network namespace that plays a pod: an HTTP and a UDP server that answer as agnhost's netexec does, as
// far as the checks ask. Its parent also lets it make HTTP requests from there. Argument: NetexecOptions as JSON.
import dgram from 'node:dgram';
import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import https from 'node:https';
import { hostPort } from '../cluster.ts';
import type { FetchOptions, FetchResult, NetexecOptions, NetexecReply, NetexecRequest } from './netexec-calls.ts';

const { name, httpPort, udpPort, forwardTo, timeoutMs }: NetexecOptions = JSON.parse(process.argv[2] ?? '{}');

/** An IPv4 peer of a socket for both families, as Go writes it. */
const plain = (address = ''): string => address.replace(/^::ffff:/, '');

/** Each on a connection of its own. */
function request({ url, method = 'GET', headers = {}, body, timeoutMs: limit }: FetchOptions): Promise<FetchResult> {
  const { promise, resolve, reject } = Promise.withResolvers<FetchResult>();
  const signal = AbortSignal.timeout(limit ?? timeoutMs);
  const options = { method, headers, agent: false, signal, rejectUnauthorized: false } as const;
  const call = (url.startsWith('https:') ? https : http).request(url, options, (response) => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk) => chunks.push(chunk));
    response.on('error', reject);
    response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }));
  });
  call.on('error', (error) => reject(signal.aborted ? new Error(`${url}: i/o timeout`) : error));
  call.end(body);
  return promise;
}

async function dialUdp(host: string, port: number, text: string): Promise<string> {
  const socket = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4');
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new Error(`udp ${hostPort(host, port)}: i/o timeout`)), timeoutMs);
  try {
    socket.on('error', reject);
    socket.on('message', (bytes) => resolve(bytes.toString()));
    socket.connect(port, host, () => socket.send(text));
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.close();
  }
}

async function dial(query: URLSearchParams): Promise<string> {
  const host = query.get('host') ?? '';
  const port = Number(query.get('port'));
  const text = query.get('request') ?? '';
  const responses: string[] = [];
  const errors: string[] = [];
  for (let i = 0; i < Number(query.get('tries') || 1); i++) {
    try {
      if (query.get('protocol') === 'udp') responses.push(await dialUdp(host, port, text));
      else responses.push((await request({ url: `http://${hostPort(host, port)}/${text}` })).body);
    } catch (error) {
      errors.push((error as Error).message);
    }
  }
  return JSON.stringify({ responses, errors });
}

async function answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, searchParams } = new URL(incoming.url ?? '/', 'http://pod');
  const peer = hostPort(plain(incoming.socket.remoteAddress), incoming.socket.remotePort ?? 0);
  if (forwardTo !== undefined) {
    const headers = { 'x-forwarded-for': plain(incoming.socket.remoteAddress) };
    const { status, body } = await request({ url: `${forwardTo}${incoming.url}`, headers });
    response.writeHead(status).end(body);
  } else if (pathname === '/hostname') response.end(name);
  else if (pathname === '/clientip') response.end(peer);
  else if (pathname === '/echo') response.end(searchParams.get('msg') ?? '');
  else if (pathname === '/header') response.end(incoming.headers[searchParams.get('key')?.toLowerCase() ?? ''] ?? '');
  else if (pathname === '/dial') response.end(await dial(searchParams));
  else if (pathname === '/healthz') response.end();
  else response.writeHead(404).end();
}

async function listenUdp(type: 'udp4' | 'udp6'): Promise<void> {
  const socket = dgram.createSocket({ type, ipv6Only: type === 'udp6' });
  socket.on('message', (bytes, peer) => {
    const [command = '', ...rest] = bytes.toString().trim().split(' ');
    const known = { hostname: name, clientip: hostPort(peer.address, peer.port), echo: rest.join(' ') };
    // A peer that is gone is no failure of this server.
    socket.send(known[command as keyof typeof known] ?? '', peer.port, peer.address, () => undefined);
  });
  socket.bind(udpPort, type === 'udp6' ? '::' : '0.0.0.0');
  await once(socket, 'listening');
}

const say = (reply: NetexecReply): boolean => process.send!(reply);

process.on('disconnect', () => process.exit(0));
process.on('message', ({ id, fetch }: NetexecRequest) => {
  request(fetch).then(
    (value) => say({ id, value }),
    (error: Error) => say({ id, error: `${name}: ${error.message}` }),
  );
});
const server = http.createServer((incoming, response) => {
  answer(incoming, response).catch((error: Error) => response.writeHead(502).end(error.message));
});
if (httpPort !== 0) await once(server.listen(httpPort), 'listening');
if (udpPort !== 0) await Promise.all([listenUdp('udp4'), listenUdp('udp6')]);
say({});
