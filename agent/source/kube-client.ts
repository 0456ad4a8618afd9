// Requests to the API servers of one cluster over kept-alive connections; who sends them need not know which server answers.
// A server that speaks HTTP/2 gets a single connection.
import { describeError } from '../log.ts';
import { CredentialReader, type Credentials, type TlsSettings } from './credentials.ts';
import { type AccessOptions, loadAccess, type ServerAccess, serviceAddress } from './kube-config.ts';
import { proxyUrlFor } from './proxy-url.ts';
import { isRecord } from './selection.ts';
import { ServerList } from './server-list.ts';
import { Agent, ProxyAgent } from './undici.ts';

export { KubeConfigError } from './kube-config.ts';

export interface KubeClientOptions extends AccessOptions {
  readonly userAgent?: string;
  /** Told when another server is used from now on. */
  readonly onMove?: (move: { readonly from: string; readonly to: string; readonly reason: string }) => void;
  readonly observer?: RequestObserver | undefined;
}

/** Told of requests, for metrics. */
export interface RequestObserver {
  /** One was answered, or failed: then the status is null. `seconds`: until the headers came. */
  onRequest(request: {
    readonly method: string;
    /** Host and port of the server. */
    readonly host: string;
    readonly status: number | null;
    /** It lasts as long as the server likes. */
    readonly watch: boolean;
    readonly seconds: number;
    readonly requestBytes: number;
  }): void;
  /** The answer to a request that is no watch was read, or left. */
  onBody(answer: { readonly method: string; readonly host: string; readonly bytes: number }): void;
}

export interface KubeRequest {
  /** With query. */
  readonly path: string;
  readonly method?: 'GET' | 'POST' | 'PATCH';
  /** Sent as JSON; a PATCH is a merge patch. */
  readonly body?: unknown;
  readonly signal: AbortSignal;
}

export interface KubeResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Chunks as they arrive; leaving the loop early closes the stream. */
  readonly body: AsyncIterable<Buffer>;
}

/** What the API server answered instead of doing what was asked. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  /** HTTP status, also of an error inside a watch stream. */
  readonly status: number;
  readonly reason: string;
  /** 0 when the server did not say. */
  readonly retryAfterMs: number;

  constructor(message: string, status: number, reason = '', retryAfterMs = 0) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }

  /** From a Status object of the API. */
  static fromStatus(what: string, object: unknown, httpStatus = 0, retryAfterMs = 0): ApiError {
    const status = isRecord(object) ? object : {};
    const details = isRecord(status.details) ? status.details : {};
    const code = typeof status.code === 'number' ? status.code : httpStatus;
    const reason = typeof status.reason === 'string' ? status.reason : '';
    const seconds = typeof details.retryAfterSeconds === 'number' ? details.retryAfterSeconds : 0;
    const message = [code, reason, status.message].filter((part) => part !== '' && part !== undefined).join(' ');
    return new ApiError(`${what}: ${message}`, code, reason, retryAfterMs || seconds * 1000);
  }
}

const CONNECT_TIMEOUT_MS = 10_000;
/** Where another server is there to be asked. */
const SHORT_CONNECT_TIMEOUT_MS = 5_000;
/** A dead peer is noticed by TCP some 10 s after this much silence, since Node then probes each second. */
const TCP_KEEP_ALIVE_MS = 30_000;
const ERROR_BODY_BYTES = 64 * 1024;
const MERGE_PATCH = 'application/merge-patch+json';

export class KubeClient {
  readonly #access: ServerAccess;
  readonly #env: NonNullable<AccessOptions['env']>;
  readonly #servers: ServerList;
  readonly #credentials: CredentialReader;
  readonly #userAgent: string;
  readonly #onMove: NonNullable<KubeClientOptions['onMove']>;
  readonly #observer: RequestObserver | null;
  /** Connections by the proxy they go through; '' for none. */
  readonly #agents = new Map<string, { readonly key: string; readonly agent: Agent | ProxyAgent }>();

  /** Throws KubeConfigError. Nothing is connected yet. */
  constructor(options: KubeClientOptions) {
    this.#access = loadAccess(options);
    this.#env = options.env ?? process.env;
    this.#servers = new ServerList(this.#access.servers);
    this.#credentials = new CredentialReader(this.#access);
    this.#userAgent = options.userAgent ?? 'kubeplumb';
    this.#onMove = options.onMove ?? (() => {});
    this.#observer = options.observer ?? null;
  }

  /** The one in use; URL without trailing slash. */
  get server(): string {
    return this.#servers.current;
  }

  /** From now on the API server's ClusterIP may be tried too, last of all: its rules exist. Nothing happens outside of pods. */
  useServiceAddress(): void {
    const address = serviceAddress(this.#env);
    if (address !== null) this.#servers.add(address);
  }

  /**
   * Answers once the headers are there, whatever the status. Sets no time limits beside the one for connecting. A GET that
   * cannot be sent to the server in use is sent to the others, each once.
   */
  async send(sent: KubeRequest): Promise<KubeResponse> {
    const credentials = await settledBefore(sent.signal, this.#credentials.read());
    const failures: { server: string; err: unknown }[] = [];
    const { method = 'GET', signal } = sent;
    for (const server of method === 'GET' ? this.#servers.candidates() : [this.#servers.current]) {
      try {
        const response = await this.#observed(server, sent, () => this.#sendTo(server, sent, credentials));
        this.#moveAfter(`HTTP status ${response.status}`, () => this.#servers.answered(server, response.status));
        return response;
      } catch (err) {
        if (!signal.aborted || isSilence(signal))
          this.#moveAfter(describeError(err), () => this.#servers.failed(server));
        if (signal.aborted) throw err;
        failures.push({ server, err });
      }
    }
    const [only] = failures;
    if (only !== undefined && failures.length === 1) throw only.err;
    const text = failures.map(({ server, err }) => `${server}: ${describeError(err)}`).join('; ');
    throw new Error(`no API server can be reached: ${text}`);
  }

  async close(): Promise<void> {
    const agents = [...this.#agents.values()];
    this.#agents.clear();
    await Promise.all(agents.map(({ agent }) => agent.destroy()));
  }

  async #observed(server: string, sent: KubeRequest, send: () => Promise<KubeResponse>): Promise<KubeResponse> {
    const observer = this.#observer;
    if (observer === null) return send();
    const { host } = new URL(server);
    const { method = 'GET', path, body } = sent;
    const watch = /[?&]watch=(true|1)(&|$)/.test(path);
    const requestBytes = body === undefined ? 0 : Buffer.byteLength(JSON.stringify(body));
    const began = performance.now();
    const tell = (status: number | null): void =>
      observer.onRequest({ method, host, status, watch, requestBytes, seconds: (performance.now() - began) / 1000 });
    try {
      const response = await send();
      tell(response.status);
      if (watch) return response;
      const count = (bytes: number): void => observer.onBody({ method, host, bytes });
      return { ...response, body: counted(response.body, count) };
    } catch (err) {
      tell(null);
      throw err;
    }
  }

  async #sendTo(server: string, sent: KubeRequest, { tls, headers }: Credentials): Promise<KubeResponse> {
    const { path, method = 'GET', body, signal } = sent;
    const agent = this.#agent(server, tls);
    const { origin, pathname, search } = new URL(`${server}${path}`);
    const sending = agent.request({
      origin,
      path: `${pathname}${search}`,
      method,
      signal,
      headers: {
        accept: 'application/json',
        'user-agent': this.#userAgent,
        ...(body !== undefined && { 'content-type': method === 'PATCH' ? MERGE_PATCH : 'application/json' }),
        ...headers,
      },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const response = await sending.catch((err: unknown) => {
      if (isSilence(signal)) this.#retire(agent);
      throw err;
    });
    if (response.statusCode === 401) this.#credentials.forget();
    return { status: response.statusCode, headers: response.headers, body: response.body };
  }

  #moveAfter(reason: string, act: () => void): void {
    const from = this.#servers.current;
    act();
    const to = this.#servers.current;
    if (from !== to) this.#onMove({ from, to, reason });
  }

  /** The pool; a new one when certificates have changed, while running requests finish on the old one. */
  #agent(server: string, tls: TlsSettings): Agent | ProxyAgent {
    const proxy = proxyUrlFor(new URL(server), this.#access.cluster.proxyUrl, this.#env) ?? '';
    const several = this.#servers.all.length > 1;
    const key = JSON.stringify([several, tls]);
    const kept = this.#agents.get(proxy);
    if (kept?.key === key) return kept.agent;
    void kept?.agent.close();
    const timeout = several ? SHORT_CONNECT_TIMEOUT_MS : CONNECT_TIMEOUT_MS;
    const connect = { timeout, keepAlive: true, keepAliveInitialDelay: TCP_KEEP_ALIVE_MS };
    // No HTTP/2 pings: nobody waits for their answers, and while they are under way TCP sends no probes, so that a dead
    // peer would be noticed after a quarter of an hour.
    const common = { allowH2: true, h2Options: { pingInterval: 0 }, headersTimeout: 0, bodyTimeout: 0 };
    const agent =
      proxy === ''
        ? new Agent({ ...common, connect: { ...tls, ...connect } })
        : new ProxyAgent({ ...common, uri: proxy, requestTls: tls, connect });
    this.#agents.set(proxy, { key, agent });
    return agent;
  }

  /** The next requests get other connections: one that swallows requests must not get them all. */
  #retire(agent: Agent | ProxyAgent): void {
    for (const [proxy, kept] of this.#agents) {
      if (kept.agent !== agent) continue;
      this.#agents.delete(proxy);
      void agent.close();
    }
  }
}

/** Who gives up by AbortError has its own reasons; any other reason is the server's silence. */
function isSilence(signal: AbortSignal): boolean {
  return signal.aborted && signal.reason?.name !== 'AbortError';
}

/** The same chunks; tells how many bytes there were once they have been read or left. */
async function* counted(body: AsyncIterable<Buffer>, tell: (bytes: number) => void): AsyncGenerator<Buffer> {
  let bytes = 0;
  try {
    for await (const chunk of body) {
      bytes += chunk.length;
      yield chunk;
    }
  } finally {
    tell(bytes);
  }
}

/** Reads an answer that is not 200 into an error; `what` names the request. */
export async function readApiError(what: string, response: KubeResponse, nowMs: number): Promise<ApiError> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response.body) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > ERROR_BODY_BYTES) break;
  }
  const text = Buffer.concat(chunks).toString('utf8');
  let status: unknown;
  try {
    status = JSON.parse(text);
  } catch {
    status = { message: text.slice(0, 200) };
  }
  const error = ApiError.fromStatus(
    what,
    isRecord(status) ? { ...status, code: response.status } : null,
    response.status,
  );
  const retryAfterMs = parseRetryAfter(response.headers['retry-after'], nowMs) || error.retryAfterMs;
  return new ApiError(error.message, error.status, error.reason, retryAfterMs);
}

const LONGEST_RETRY_AFTER_MS = 300_000;

/** Milliseconds asked for by a Retry-After header (seconds or a date), at most five minutes; 0 for none. */
export function parseRetryAfter(header: string | string[] | undefined, nowMs: number): number {
  if (typeof header !== 'string') return 0;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - nowMs;
  return Number.isFinite(ms) ? Math.min(LONGEST_RETRY_AFTER_MS, Math.max(0, ms)) : 0;
}

/** The promise's outcome, unless the signal comes first. */
function settledBefore<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
