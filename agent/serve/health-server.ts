// The HTTP server of `/healthz` and `/livez` (P-45, P-48). A listener that cannot be opened is tried again (P-49).
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Log } from '../log.ts';
import { type Clock, systemClock } from '../sync/clock.ts';
import { close, hostOption, listen } from './listen.ts';
import { healthAnswer, type ProxyHealth } from './proxy-health.ts';

export interface HealthServerOptions {
  ip: string;
  port: number;
  health: ProxyHealth;
  log: Log;
  /** Further fields of the body; they cannot replace those of P-48. */
  extra?: (path: '/healthz' | '/livez') => Record<string, unknown>;
  /** Told of every answer, for metrics. */
  onAnswer?: (path: '/healthz' | '/livez', status: 200 | 503) => void;
  /** Told of every failure to listen (P-49: event, hard fail). */
  onListenFailure?: (error: Error) => void;
  clock?: Clock;
  retryMs?: number;
}

const RETRY_MS = 5000;

export class HealthServer {
  readonly #options: HealthServerOptions;
  readonly #clock: Clock;
  #server: Server | null = null;
  #stopped = false;
  #cancelRetry: (() => void) | null = null;

  constructor(options: HealthServerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Tries to listen; returns the port, or null when that failed and is being tried again. */
  async start(): Promise<number | null> {
    const { ip, port, log } = this.#options;
    const server = createServer((request, response) => this.#answer(request, response));
    this.#server = server;
    try {
      const bound = await listen(server, { ...hostOption(ip), port });
      if (this.#stopped) {
        close(server);
        return null;
      }
      server.on('error', (error) => this.#failed(server, error));
      log.info('health server listens', { ip, port: bound });
      return bound;
    } catch (error) {
      this.#failed(server, error as Error);
      return null;
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelRetry?.();
    if (this.#server !== null) close(this.#server);
    this.#server = null;
  }

  #failed(server: Server, error: Error): void {
    if (this.#stopped || this.#server !== server) return;
    close(server);
    this.#server = null;
    const { ip, port, log, onListenFailure, retryMs = RETRY_MS } = this.#options;
    log.error('health server cannot listen, will try again', { ip, port, err: error });
    this.#cancelRetry = this.#clock.after(retryMs, () => void this.start());
    onListenFailure?.(error);
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    request.resume();
    const path = (request.url ?? '').split('?')[0];
    response.setHeader('X-Content-Type-Options', 'nosniff');
    if (path !== '/healthz' && path !== '/livez') {
      response.writeHead(404, { 'Content-Type': 'text/plain; charset=utf-8' }).end('404 page not found\n');
      return;
    }
    const { health, extra, onAnswer } = this.#options;
    const { status, body } = healthAnswer(path, health.status(), this.#clock.wallMs());
    onAnswer?.(path, status);
    // The fields of P-48 stay first and as they are.
    const text = JSON.stringify({ ...body, ...extra?.(path), ...body });
    response.writeHead(status, { 'Content-Type': 'application/json' }).end(text);
  }
}
