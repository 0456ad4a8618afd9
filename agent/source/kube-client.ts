// Requests to one API server over one pool of kept-alive connections. A server that speaks HTTP/2 gets a single connection.
import { Agent, type Dispatcher, ProxyAgent, request } from 'undici';
import { CredentialReader, type TlsSettings } from './credentials.ts';
import { type AccessOptions, loadAccess } from './kube-config.ts';
import { proxyUrlFor } from './proxy-url.ts';
import { isRecord } from './selection.ts';

export { KubeConfigError } from './kube-config.ts';

export interface KubeClientOptions extends AccessOptions {
  readonly userAgent?: string;
}

export interface KubeRequest {
  /** With query. */
  readonly path: string;
  readonly method?: 'GET' | 'POST' | 'PUT' | 'PATCH';
  /** Sent as JSON. */
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
/** A dead peer is noticed by TCP some 10 s after this much silence, since Node then probes each second. */
const TCP_KEEP_ALIVE_MS = 30_000;
const ERROR_BODY_BYTES = 64 * 1024;

export class KubeClient {
  /** URL without trailing slash. */
  readonly server: string;
  readonly #credentials: CredentialReader;
  readonly #userAgent: string;
  readonly #proxyUrl: string | null;
  #agent: Agent | ProxyAgent | null = null;
  #agentKey = '';

  /** Throws KubeConfigError. Nothing is connected yet. */
  constructor(options: KubeClientOptions) {
    const access = loadAccess(options);
    this.server = access.cluster.server;
    this.#credentials = new CredentialReader(access);
    this.#proxyUrl = proxyUrlFor(new URL(this.server), access.cluster.proxyUrl, options.env ?? process.env);
    this.#userAgent = options.userAgent ?? 'kubeplumb';
  }

  /** Answers once the headers are there, whatever the status. Sets no time limits beside the one for connecting. */
  async send({ path, method = 'GET', body, signal }: KubeRequest): Promise<KubeResponse> {
    const { tls, headers } = await settledBefore(signal, this.#credentials.read());
    const response = await request(`${this.server}${path}`, {
      dispatcher: this.#dispatcher(tls),
      method,
      signal,
      headers: {
        accept: 'application/json',
        'user-agent': this.#userAgent,
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? null : JSON.stringify(body),
    });
    if (response.statusCode === 401) this.#credentials.forget();
    return { status: response.statusCode, headers: response.headers, body: response.body };
  }

  async close(): Promise<void> {
    const agent = this.#agent;
    this.#agent = null;
    await agent?.destroy();
  }

  /** The pool; a new one when certificates have changed, while running requests finish on the old one. */
  #dispatcher(tls: TlsSettings): Dispatcher {
    const key = JSON.stringify(tls);
    if (this.#agent === null || key !== this.#agentKey) {
      void this.#agent?.close();
      this.#agentKey = key;
      const connect = { timeout: CONNECT_TIMEOUT_MS, keepAlive: true, keepAliveInitialDelay: TCP_KEEP_ALIVE_MS };
      const common = { allowH2: true, headersTimeout: 0, bodyTimeout: 0 };
      this.#agent =
        this.#proxyUrl === null
          ? new Agent({ ...common, connect: { ...tls, ...connect } })
          : new ProxyAgent({ ...common, uri: this.#proxyUrl, requestTls: tls, connect });
    }
    return this.#agent;
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
