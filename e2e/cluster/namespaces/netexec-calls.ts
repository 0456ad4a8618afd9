// What the process in a network namespace is started with and asked for: its servers, and HTTP requests from there.

export interface NetexecOptions {
  /** What it says its host name is. */
  readonly name: string;
  /** 0 for no server. */
  readonly httpPort: number;
  readonly udpPort: number;
  /** Passes requests on to this `http://host:port`. */
  readonly forwardTo?: string;
  /** Of one connection. */
  readonly timeoutMs: number;
}

export interface FetchOptions {
  readonly url: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly timeoutMs?: number;
}

export interface FetchResult {
  readonly status: number;
  readonly body: string;
}

export interface NetexecRequest {
  readonly id: number;
  readonly fetch: FetchOptions;
}

/** Without an id: the servers listen. */
export interface NetexecReply {
  readonly id?: number;
  readonly value?: FetchResult;
  readonly error?: string;
}
