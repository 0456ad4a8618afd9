// An HTTP server on one address: a listener that cannot be opened, or breaks, is tried again (P-49).
import { createServer, type RequestListener, type Server } from 'node:http';
import type { Log } from '../log.ts';
import { type Clock, systemClock } from '../sync/clock.ts';
import { close, hostOption, listen } from './listen.ts';

export interface RetryingServerOptions {
  /** For the log: `health server`. */
  readonly name: string;
  /** An unspecified address of either family means all addresses of both (P-45). */
  readonly ip: string;
  readonly port: number;
  readonly handler: RequestListener;
  readonly log: Log;
  /** Told of every failure to listen (P-49: event, hard fail). */
  readonly onListenFailure?: ((error: Error) => void) | undefined;
  readonly clock?: Clock | undefined;
  readonly retryMs?: number | undefined;
}

const RETRY_MS = 5000;

export class RetryingServer {
  readonly #options: RetryingServerOptions;
  readonly #clock: Clock;
  #server: Server | null = null;
  #stopped = false;
  #cancelRetry: (() => void) | null = null;

  constructor(options: RetryingServerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Tries to listen; returns the port, or null when that failed and is being tried again. */
  async start(): Promise<number | null> {
    const { name, ip, port, handler, log } = this.#options;
    const server = createServer(handler);
    this.#server = server;
    try {
      const bound = await listen(server, { ...hostOption(ip), port });
      if (this.#stopped) {
        close(server);
        return null;
      }
      server.on('error', (error) => this.#failed(server, error));
      log.info(`${name} listens`, { ip, port: bound });
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
    const { name, ip, port, log, onListenFailure, retryMs = RETRY_MS } = this.#options;
    log.error(`${name} cannot listen, will try again`, { ip, port, err: error });
    this.#cancelRetry = this.#clock.after(retryMs, () => void this.start());
    onListenFailure?.(error);
  }
}
