// The HTTP server of `/metrics`, `/configz`, `/proxyMode` and the like (P-75, P-76): plain, and without authentication,
// as kube-proxy's. Paths are matched exactly, methods do not matter but for `/debug/flags/v`.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { ProxyMode } from '../config/types.ts';
import type { Log } from '../log.ts';
import type { Exposition } from '../metrics/agent-metrics.ts';
import { type Clock, systemClock } from '../sync/clock.ts';
import { type ProfilingOptions, profilingRoutes } from './profiling.ts';
import { RetryingServer } from './retrying-server.ts';

export interface MetricsServerOptions {
  readonly ip: string;
  readonly port: number;
  readonly mode: ProxyMode;
  readonly metrics: { exposition(): Promise<Exposition>; slis(): Promise<Exposition> };
  /** The effective configuration, as a v1alpha1 object. */
  readonly configz: unknown;
  /** Texts of `/flagz` and `/statusz`; null where the gate is off. */
  readonly flagz: (() => string) | null;
  readonly statusz: ((nowMs: number, paths: readonly string[]) => string) | null;
  /** null without `enableProfiling`. */
  readonly profiling: ProfilingOptions | null;
  readonly log: Log;
  /** Told of every failure to listen (P-49: event, hard fail). */
  readonly onListenFailure?: (error: Error) => void;
  readonly clock?: Clock;
  readonly retryMs?: number;
}

/** Body and headers of an answer; 200 unless it says otherwise. */
export interface Answer {
  readonly body: string;
  readonly status?: number;
  readonly type?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** May be compressed. */
  readonly large?: boolean;
}

export type Route = (request: IncomingMessage, url: URL) => Answer | Promise<Answer>;

const TEXT = 'text/plain; charset=utf-8';
const SNIFF = { 'X-Content-Type-Options': 'nosniff' };
const NOT_FOUND: Answer = { status: 404, body: '404 page not found\n', headers: SNIFF };
const LARGE_BYTES = 1400;

export class MetricsServer extends RetryingServer {
  readonly #log: Log;
  readonly #routes: ReadonlyMap<string, Route>;

  constructor(options: MetricsServerOptions) {
    const { ip, port, log, onListenFailure, clock = systemClock, retryMs } = options;
    super({
      name: 'metrics server',
      ip,
      port,
      log,
      onListenFailure,
      clock,
      retryMs,
      handler: (request, response) => void this.#answer(request, response),
    });
    this.#log = log;
    this.#routes = new Map(Object.entries(routes(options, clock)));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const url = new URL(request.url ?? '/', 'http://agent');
      const route = this.#routes.get(url.pathname);
      const answer = route === undefined ? NOT_FOUND : await route(request, url);
      request.resume();
      await send(request, response, answer);
    } catch (err) {
      this.#log.warn('metrics server cannot answer', { request: request.url, err });
      if (!response.headersSent) response.writeHead(500, { 'Content-Type': TEXT }).end(`${String(err)}\n`);
      else response.destroy();
    }
  }
}

function routes(options: MetricsServerOptions, clock: Clock): Record<string, Route> {
  const { metrics, mode, configz, flagz, statusz, profiling } = options;
  const started = String(Math.floor(performance.timeOrigin / 1000));
  const scrape = (read: () => Promise<Exposition>): Route => {
    return async () => {
      const { type, text } = await read();
      return { type, body: text, headers: { 'Process-Start-Time-Unix': started }, large: true };
    };
  };
  const text = (body: string): Answer => ({ body, headers: SNIFF });
  const all: Record<string, Route> = {
    '/metrics': scrape(() => metrics.exposition()),
    '/metrics/slis': scrape(() => metrics.slis()),
    '/healthz': (_, { searchParams }) =>
      text(searchParams.has('verbose') ? '[+]ping ok\nhealthz check passed\n' : 'ok'),
    '/healthz/ping': () => ({ body: 'ok' }),
    '/proxyMode': () => text(mode),
    '/configz': () => ({
      type: 'application/json',
      body: JSON.stringify({ 'kubeproxy.config.k8s.io': configz }),
      headers: SNIFF,
    }),
  };
  if (flagz !== null) all['/flagz'] = () => ({ body: flagz() });
  if (profiling !== null) Object.assign(all, profilingRoutes(profiling));
  if (statusz !== null) {
    const paths = [...Object.keys(all), '/statusz'].sort();
    all['/statusz'] = () => ({ body: statusz(clock.wallMs(), paths) });
  }
  return all;
}

async function send(request: IncomingMessage, response: ServerResponse, answer: Answer): Promise<void> {
  const { body, status = 200, type = TEXT, headers = {}, large = false } = answer;
  const accepts = /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))/.test(String(request.headers['accept-encoding'] ?? ''));
  const compress = large && accepts && body.length > LARGE_BYTES;
  const bytes = compress ? await promisify(gzip)(body) : Buffer.from(body);
  response
    .writeHead(status, {
      'Content-Type': type,
      ...headers,
      ...(compress && { 'Content-Encoding': 'gzip' }),
      'Content-Length': bytes.length,
    })
    .end(request.method === 'HEAD' ? undefined : bytes);
}
