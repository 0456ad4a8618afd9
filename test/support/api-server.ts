// A small API server for tests: list, watch and streaming list of the kinds the agent reads, with faults on demand.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createSecureServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { ApiStore, RESOURCES, type ResourceName, type Stored, type StoreEvent, selector } from './api-store.ts';

export interface TestApiServerOptions {
  /** Shared by several servers of one cluster; one of its own unless given. */
  readonly store?: ApiStore;
  /** `refuse` answers 422 to a streaming list, `ignore` sends objects but no end, as servers before the feature do. */
  readonly streamingList?: 'serve' | 'refuse' | 'ignore';
  /** False sends whole lists whatever the limit asked for, as lists from a server's cache are. */
  readonly pages?: boolean;
  /** Resources answered with 404. */
  readonly without?: readonly ResourceName[];
  readonly bookmarkEveryMs?: number;
  /** Told of each request of a kind before it is answered. */
  readonly onRequest?: (request: SeenRequest) => void;
  /** Serves https with HTTP/2 and HTTP/1.1. */
  readonly tls?: { readonly key: string; readonly cert: string; readonly ca?: string };
}

export interface SeenRequest {
  readonly resource: ResourceName;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly watch: boolean;
}

export interface Failure {
  readonly status: number;
  readonly retryAfter?: string;
  /** Only requests this holds for. */
  readonly when?: (request: SeenRequest) => boolean;
}

interface Watcher {
  readonly resource: ResourceName;
  readonly response: ServerResponse;
  readonly matches: (object: Stored) => boolean;
}

export class TestApiServer {
  readonly store: ApiStore;
  /** Nobody gets regular bookmarks while this is true. */
  bookmarksStalled = false;
  /** All requests so far, oldest first. */
  readonly requests: SeenRequest[] = [];
  /** Event objects that were written (events.k8s.io), oldest first. */
  readonly events: { readonly method: string; readonly path: string; readonly object: Record<string, unknown> }[] = [];
  readonly #options: TestApiServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<{ destroy(): void }>();
  readonly #watchers = new Set<Watcher>();
  readonly #failures: Failure[] = [];
  readonly #stalled = new Set<ServerResponse>();
  readonly #waiting: { readonly holds: () => boolean; readonly resolve: () => void }[] = [];
  #stalls = 0;
  #silent = false;
  #connections = 0;

  constructor(options: TestApiServerOptions = {}) {
    this.#options = options;
    this.store = options.store ?? new ApiStore();
    const listener = (req: IncomingMessage, res: ServerResponse) => this.#handle(req, res);
    // The compatibility API of http2 is the same as far as it is used here.
    this.#server =
      options.tls === undefined
        ? createServer(listener)
        : (createSecureServer({
            ...options.tls,
            allowHTTP1: true,
            ...(options.tls.ca !== undefined && { requestCert: true, rejectUnauthorized: true }),
          }).on('request', listener as never) as unknown as Server);
    this.#server.on(options.tls === undefined ? 'connection' : 'secureConnection', (socket) => {
      this.#connections++;
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => {});
    });
    this.store.listeners.add((event) => this.#publish(event));
  }

  /**
   * Listens on 127.0.0.1, or with `everywhere` on all addresses: then the socket is there when the call returns, so that
   * it can be made inside a network namespace. May be called again after `close`, to come back after an outage.
   */
  async start(port = 0, { everywhere = false } = {}): Promise<string> {
    await new Promise<void>((resolve) => {
      if (everywhere) this.#server.listen(port, resolve);
      else this.#server.listen(port, '127.0.0.1', resolve);
    });
    return this.url;
  }

  get url(): string {
    const { port } = this.#server.address() as AddressInfo;
    return `${this.#options.tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`;
  }

  /** Connections accepted so far. */
  get connections(): number {
    return this.#connections;
  }

  get listening(): boolean {
    return this.#server.listening;
  }

  /** Stops listening and cuts all connections. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Resolves once the condition holds; it is looked at after each request and each end of one. */
  until(holds: () => boolean): Promise<void> {
    if (holds()) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.push({ holds, resolve });
    });
  }

  watchers(resource: ResourceName): number {
    return [...this.#watchers].filter((w) => w.resource === resource).length;
  }

  /** The next matching requests, one for each failure given, are answered like this. */
  failNext(...failures: Failure[]): void {
    this.#failures.push(...failures);
  }

  /** The next requests get headers and nothing more. */
  stallNext(count = 1): void {
    this.#stalls += count;
  }

  /** From now on requests are accepted and get nothing, not even headers. */
  beSilent(): void {
    this.#silent = true;
  }

  /** Ends all watches, in order or by cutting the connections. */
  dropWatches(how: 'end' | 'cut' = 'end'): void {
    const dropped = [...this.#watchers];
    this.#watchers.clear();
    for (const { response } of dropped) {
      if (how === 'end') response.end();
      else response.destroy();
    }
  }

  /** Sends bytes as they are to the watchers of a resource: garbage, half a line, an event once more. */
  sendRaw(resource: ResourceName, bytes: string | Buffer): void {
    for (const w of this.#watchers) if (w.resource === resource) w.response.write(bytes);
  }

  sendError(resource: ResourceName, code: number, reason: string, message = 'test'): void {
    const status = { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message };
    this.sendRaw(resource, `${JSON.stringify({ type: 'ERROR', object: status })}\n`);
  }

  sendBookmark(resource: ResourceName): void {
    this.sendRaw(resource, this.#bookmark(resource, {}));
  }

  #handle(req: IncomingMessage, res: ServerResponse): void {
    const url = new URL(req.url ?? '/', 'http://test');
    const resource = Object.entries(RESOURCES).find(([name, r]) => `${r.prefix}/${name}` === url.pathname)?.[0] as
      | ResourceName
      | undefined;
    const query = url.searchParams;
    if (url.pathname.startsWith('/apis/events.k8s.io/v1/')) {
      void this.#takeEvent(req, res, url.pathname);
    } else if (resource === undefined || this.#options.without?.includes(resource)) {
      fail(res, 404, 'NotFound', 'the server could not find the requested resource');
    } else {
      const seen = { resource, query, headers: req.headers, watch: query.get('watch') === 'true' };
      this.requests.push(seen);
      this.#options.onRequest?.(seen);
      this.#answer(seen, res);
    }
    res.on('close', () => this.#check());
    this.#check();
  }

  async #takeEvent(req: IncomingMessage, res: ServerResponse, path: string): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of req) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    if (req.method === 'PATCH' && req.headers['content-type'] !== 'application/merge-patch+json') {
      fail(res, 415, 'UnsupportedMediaType', 'the body of the request was in an unknown format');
      return;
    }
    this.events.push({ method: req.method ?? '', path, object: JSON.parse(text) });
    res.writeHead(req.method === 'POST' ? 201 : 200, { 'content-type': 'application/json' }).end(text);
  }

  #answer(request: SeenRequest, res: ServerResponse): void {
    if (this.#silent) return;
    const index = this.#failures.findIndex(({ when }) => when?.(request) ?? true);
    const [failure] = index < 0 ? [] : this.#failures.splice(index, 1);
    if (failure !== undefined) {
      if (failure.retryAfter !== undefined) res.setHeader('retry-after', failure.retryAfter);
      fail(res, failure.status, 'Test', 'failure on demand');
    } else if (this.#stalls > 0) {
      this.#stalls--;
      res.writeHead(200, { 'content-type': 'application/json' });
      res.flushHeaders();
      this.#stalled.add(res);
    } else if (request.watch) this.#watch(request, res);
    else this.#list(request, res);
  }

  #list({ resource, query }: SeenRequest, res: ServerResponse): void {
    const token = query.get('continue');
    const { version, skip } = token === null ? { version: this.store.version, skip: 0 } : JSON.parse(token);
    if (version < this.store.compactedVersion) {
      fail(res, 410, 'Expired', 'the continue token is too old');
      return;
    }
    const limit = this.#options.pages === false ? 0 : Number(query.get('limit') ?? 0);
    const all = this.store.all(resource).filter(selector(query));
    const items = limit > 0 ? all.slice(skip, skip + limit) : all;
    const more = skip + items.length < all.length;
    const { apiVersion, kind } = RESOURCES[resource];
    const metadata = {
      resourceVersion: String(version),
      ...(more && { continue: JSON.stringify({ version, skip: skip + items.length }) }),
    };
    const head = JSON.stringify({ kind: `${kind}List`, apiVersion, metadata });
    res.writeHead(200, { 'content-type': 'application/json' });
    res.end(`${head.slice(0, -1)},"items":[${items.map((o) => o.json).join(',')}]}\n`);
  }

  #watch({ resource, query }: SeenRequest, res: ServerResponse): void {
    const streaming = query.get('sendInitialEvents') === 'true';
    if (streaming && this.#options.streamingList === 'refuse') {
      fail(res, 422, 'Invalid', 'sendInitialEvents is forbidden for watch');
      return;
    }
    const watcher = { resource, response: res, matches: selector(query) };
    const from = query.get('resourceVersion') ?? '';
    res.writeHead(200, { 'content-type': 'application/json' });
    res.flushHeaders();
    if (streaming || from === '') {
      const events = this.store
        .all(resource)
        .filter(watcher.matches)
        .map((o) => eventLine('ADDED', o));
      if (streaming && this.#options.streamingList !== 'ignore') {
        events.push(this.#bookmark(resource, { 'k8s.io/initial-events-end': 'true' }));
      }
      res.write(events.join(''));
    } else {
      const missed = this.store.since(Number(from));
      if (missed === null) {
        const object = { kind: 'Status', status: 'Failure', code: 410, reason: 'Expired', message: `too old: ${from}` };
        res.end(`${JSON.stringify({ type: 'ERROR', object })}\n`);
        return;
      }
      for (const event of missed) this.#emit(watcher, event);
    }
    const { bookmarkEveryMs } = this.#options;
    const timer =
      bookmarkEveryMs === undefined
        ? undefined
        : setInterval(() => this.bookmarksStalled || res.write(this.#bookmark(resource, {})), bookmarkEveryMs);
    this.#watchers.add(watcher);
    res.on('close', () => {
      clearInterval(timer);
      this.#watchers.delete(watcher);
    });
  }

  #publish(event: StoreEvent): void {
    for (const watcher of this.#watchers) this.#emit(watcher, event);
  }

  /** An object that enters or leaves the selection is an addition or a deletion for the watcher. */
  #emit({ resource, response, matches }: Watcher, { resource: of, type, object, previous }: StoreEvent): void {
    if (resource !== of) return;
    const before = previous !== null && matches(previous);
    const now = type !== 'DELETED' && matches(object);
    if (now) response.write(eventLine(before ? 'MODIFIED' : 'ADDED', object));
    else if (before) response.write(eventLine('DELETED', object));
  }

  #bookmark(resource: ResourceName, annotations: Record<string, string>): string {
    const { apiVersion, kind } = RESOURCES[resource];
    const metadata = { resourceVersion: String(this.store.version), annotations };
    return `${JSON.stringify({ type: 'BOOKMARK', object: { kind, apiVersion, metadata } })}\n`;
  }

  #check(): void {
    for (const waiter of this.#waiting.filter((w) => w.holds())) {
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      waiter.resolve();
    }
  }
}

export function eventLine(type: string, object: Stored): string {
  return `{"type":"${type}","object":${object.json}}\n`;
}

function fail(res: ServerResponse, code: number, reason: string, message: string): void {
  res.writeHead(code, { 'content-type': 'application/json' });
  res.end(JSON.stringify({ kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code }));
}
