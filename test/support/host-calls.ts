// What a host of a test network can be asked to do: the calls between a test and the process that runs in the
// host's namespace. Times are milliseconds; moments are of the machine's monotonic clock (`monotonicMs`).

export type Proto = 'TCP' | 'UDP';

/** Now, comparable between all processes of the machine. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

export interface ListenOptions {
  readonly proto: Proto;
  readonly ip: string;
  /** 0 chooses a free one. */
  readonly port: number;
  /** TCP: the server closes after its line, which is cheap. Else it answers each further line with another one. */
  readonly closes?: boolean;
}

export interface Target {
  readonly proto: Proto;
  readonly ip: string;
  readonly port: number;
  /** Address and port to dial from. */
  readonly source?: string;
  readonly sourcePort?: number;
  /**
   * For one answer; by default 1,000 for UDP and 1,500 for TCP. Between namespaces an ICMPv6 error comes back while
   * connect(2) still holds the socket, and only the one after the next SYN, a second later, is heeded.
   */
  readonly timeoutMs?: number;
}

/** Who answered, and which source address it saw. */
export interface Answer {
  readonly outcome: 'answered';
  readonly host: string;
  readonly port: number;
  readonly peer: string;
  readonly peerPort: number;
  readonly tookMs: number;
}

/**
 * `refused`: port unreachable, or a TCP reset before the connection stood. `unreachable`: prohibited, or no
 * route (of that a UDP socket does not learn: `timeout`). `reset`: cut later. `closed`: ended without an answer.
 */
export interface Failure {
  readonly outcome: 'refused' | 'timeout' | 'unreachable' | 'reset' | 'closed' | 'error';
  /** The error code, '' when there is none. */
  readonly code: string;
  readonly tookMs: number;
}

export type Attempt = Answer | Failure;

/** One word for an attempt: the endpoint `host:port`, or the outcome. */
export const attemptText = (attempt: Attempt): string =>
  attempt.outcome === 'answered' ? `${attempt.host}:${attempt.port}` : attempt.outcome;

export interface ConnectOptions extends Target {
  /** How many attempts, 1 by default. */
  readonly count?: number;
  /** How many at the same time, 1 by default. */
  readonly width?: number;
}

export interface LoadOptions {
  /** Dialed in turn. */
  readonly targets: readonly Target[];
  /** Most attempts at the same time. */
  readonly width: number;
  /** Attempts started each second; without it as many as `width` allows. */
  readonly perSecond?: number;
  /** Keep a row for each attempt. */
  readonly keepDetails?: boolean;
}

/** Columns, one row an attempt, in the order they ended. */
export interface LoadDetails {
  readonly startedAt: Float64Array;
  readonly tookMs: Float32Array;
  /** Index in `targets`. */
  readonly target: Uint16Array;
  /** Index in `texts`. */
  readonly result: Uint16Array;
  /** As attemptText writes them. */
  readonly texts: readonly string[];
}

export interface LoadCounters {
  readonly startedAt: number;
  readonly endedAt: number;
  readonly attempts: number;
  readonly answered: number;
  /** How many attempts by attemptText. */
  readonly results: Readonly<Record<string, number>>;
  readonly slowestMs: number;
}

export interface LoadResult extends LoadCounters {
  readonly details: LoadDetails | null;
}

/** Each call's argument and result. */
export interface HostCalls {
  listen(options: ListenOptions): { port: number };
  /** Closes a server; `cut` destroys its connections as well. Nothing listening there is an error. */
  unlisten(options: { proto: Proto; ip: string; port: number; cut?: boolean }): null;
  connect(options: ConnectOptions): Attempt[];
  /** Opens a connection that stays, or a UDP socket, and waits for the first answer. */
  open(target: Target): { flow: number; first: Attempt };
  /** Sends a line over an open flow and waits for the answer. */
  say(options: { flow: number; timeoutMs?: number }): Attempt;
  close(options: { flow: number }): null;
  startLoad(options: LoadOptions): { load: number };
  loadCounters(options: { load: number }): LoadCounters;
  /** Starts no more attempts, waits for those under way. */
  stopLoad(options: { load: number }): LoadResult;
}

export type CallName = keyof HostCalls;
export type CallOptions<K extends CallName> = Parameters<HostCalls[K]>[0];
export type CallResult<K extends CallName> = ReturnType<HostCalls[K]>;

export interface Request {
  readonly id: number;
  readonly call: CallName;
  readonly options: unknown;
}

export interface Reply {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}
