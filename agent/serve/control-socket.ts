// The agent's Unix socket, root only: HTTP for agentctl. The agent goes on without it when it cannot be had.
import { chmodSync, lstatSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { Breather } from '../../native/breather.ts';
import type { Log } from '../log.ts';

import { close } from './listen.ts';

export interface ControlAnswer {
  readonly status: number;
  readonly type: 'application/json' | 'text/plain';
  /** Parts are written one by one, with turns of the event loop in between. */
  readonly body: string | Iterable<string>;
}

/** Answers a GET of one path. */
export type ControlRoute = (query: URLSearchParams) => ControlAnswer;

export interface ControlSocketOptions {
  readonly path: string;
  /** By path, such as `/status`. */
  readonly routes: Readonly<Record<string, ControlRoute>>;
  readonly log: Log;
}

/** A body of JSON. */
export function jsonAnswer(value: unknown, status = 200): ControlAnswer {
  return { status, type: 'application/json', body: `${JSON.stringify(value)}\n` };
}

export class ControlSocket {
  readonly #options: ControlSocketOptions;
  #server: Server | null = null;

  constructor(options: ControlSocketOptions) {
    this.#options = options;
  }

  /** Tells whether it listens; if not, the log says why. Never throws. */
  async start(): Promise<boolean> {
    const { path, log } = this.#options;
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      await clear(path);
      const server = createServer((request, response) => void this.#answer(request, response));
      await listenPrivately(server, path);
      chmodSync(path, 0o600);
      server.on('error', (err) => log.warn('control socket', { path, err }));
      this.#server = server;
      log.debug('control socket listens', { path });
      return true;
    } catch (err) {
      log.warn('no control socket: agentctl will not reach this agent', { path, err });
      return false;
    }
  }

  /** Ends and removes the socket. */
  stop(): void {
    if (this.#server !== null) close(this.#server); // closing a Unix socket removes its file
    this.#server = null;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.resume();
    response.setHeader('Connection', 'close');
    try {
      const url = new URL(request.url ?? '/', 'http://agent');
      const { status, type, body } = this.#route(request.method ?? '', url);
      response.writeHead(status, { 'Content-Type': `${type}; charset=utf-8` });
      await writeParts(response, typeof body === 'string' ? [body] : body);
    } catch (err) {
      this.#options.log.warn('control socket cannot answer', { request: request.url, err });
      // Cut off, a body that has begun cannot be taken for a whole one.
      if (response.headersSent) response.destroy();
      else response.writeHead(500).end(`${JSON.stringify({ error: String(err) })}\n`);
    }
  }

  #route(method: string, url: URL): ControlAnswer {
    const { routes } = this.#options;
    if (!Object.hasOwn(routes, url.pathname)) return jsonAnswer({ error: `no such path: ${url.pathname}` }, 404);
    if (method !== 'GET') return jsonAnswer({ error: `method ${method} is not allowed` }, 405);
    return routes[url.pathname]!(url.searchParams);
  }
}

async function writeParts(response: ServerResponse, parts: Iterable<string>): Promise<void> {
  const breather = new Breather();
  for (const part of parts) {
    if (response.destroyed) return; // the asker has gone
    if (!response.write(part)) await drained(response);
    else if (breather.due) await breather.rest();
  }
  response.end();
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.on('drain', done).on('close', done);
  });
}

/** Removes the socket of a dead agent. @throws Error when something else is there, or a living agent. */
async function clear(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new Error('there is a file of this name that is no socket');
  if (await answers(path)) throw new Error('another agent that is running uses it');
  rmSync(path, { force: true });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (err: NodeJS.ErrnoException) => {
      if (err.code === 'ECONNREFUSED' || err.code === 'ENOENT') resolve(false);
      else reject(err);
    });
  });
}

/** Listens on a socket that is never open to others, also when its folder is. */
function listenPrivately(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const umask = process.umask(0o177);
    try {
      server.listen(path, () => {
        server.off('error', reject);
        resolve();
      });
    } finally {
      process.umask(umask);
    }
  });
}
