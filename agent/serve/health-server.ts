// The HTTP server of `/healthz` and `/livez` (P-45, P-48).
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Log } from '../log.ts';
import { type Clock, systemClock } from '../sync/clock.ts';
import { send } from './listen.ts';
import { healthAnswer, type ProxyHealth } from './proxy-health.ts';
import { RetryingServer } from './retrying-server.ts';

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

export class HealthServer extends RetryingServer {
  readonly #options: HealthServerOptions;
  readonly #clock: Clock;

  constructor(options: HealthServerOptions) {
    const { ip, port, log, onListenFailure, clock = systemClock, retryMs } = options;
    super({
      name: 'health server',
      ip,
      port,
      log,
      onListenFailure,
      clock,
      retryMs,
      handler: (request, response) => this.#answer(request, response),
    });
    this.#options = options;
    this.#clock = clock;
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    request.resume();
    const path = (request.url ?? '').split('?')[0];
    response.setHeader('X-Content-Type-Options', 'nosniff');
    if (path !== '/healthz' && path !== '/livez') {
      send(response, 404, { 'Content-Type': 'text/plain; charset=utf-8' }, '404 page not found\n');
      return;
    }
    const { health, extra, onAnswer } = this.#options;
    const { status, body } = healthAnswer(path, health.status(), this.#clock.wallMs());
    onAnswer?.(path, status);
    // The fields of P-48 stay first and as they are.
    const text = JSON.stringify({ ...body, ...extra?.(path), ...body });
    send(response, status, { 'Content-Type': 'application/json' }, text);
  }
}
