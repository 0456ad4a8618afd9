// One connection or datagram exchange: dial, wait for a line `{host, port, peer, peerPort}`, and say how it ended.
import dgram from 'node:dgram';
import net from 'node:net';
import { type Attempt, type Failure, monotonicMs, type Target } from './host-calls.ts';
import { scaled } from './time-scale.ts';

const DEFAULT_TIMEOUT_MS = { TCP: 1500, UDP: 1000 } as const;

export interface Exchange {
  /** Sends a line and waits for the next answer; the first answer of a TCP server comes without asking. */
  next(send: boolean, timeoutMs: number | undefined, done: (attempt: Attempt) => void): void;
  /** Ends without a trace: a TCP connection is reset, so that no port stays in TIME_WAIT. */
  close(): void;
}

const OUTCOMES: Readonly<Record<string, Failure['outcome']>> = {
  ECONNREFUSED: 'refused',
  ETIMEDOUT: 'timeout',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
  EACCES: 'unreachable',
  ECONNRESET: 'reset',
  EPIPE: 'reset',
};

/** Waits for one answer at a time and remembers how the flow ended. */
class Waiter {
  #done: ((attempt: Attempt) => void) | null = null;
  #startedAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #lines: string[] = [];
  #ended: { outcome: Failure['outcome']; code: string } | null = null;

  wait(startedAt: number, timeoutMs: number, done: (attempt: Attempt) => void): void {
    if (this.#done !== null) throw new Error('an answer is awaited already');
    this.#done = done;
    this.#startedAt = startedAt;
    const line = this.#lines.shift();
    if (line !== undefined) this.#answer(line);
    else if (this.#ended) this.#finish(this.#ended);
    else this.#timer = setTimeout(() => this.#finish({ outcome: 'timeout', code: '' }), scaled(timeoutMs));
  }

  line(line: string): void {
    if (this.#done) this.#answer(line);
    else this.#lines.push(line);
  }

  end(outcome: Failure['outcome'], code: string): void {
    this.#ended ??= { outcome, code };
    if (this.#done) this.#finish(this.#ended);
  }

  error(error: NodeJS.ErrnoException): void {
    this.end(OUTCOMES[error.code ?? ''] ?? 'error', error.code ?? error.message);
  }

  #answer(line: string): void {
    const { host, port, peer, peerPort } = JSON.parse(line);
    this.#settle({ outcome: 'answered', host, port, peer, peerPort, tookMs: monotonicMs() - this.#startedAt });
  }

  #finish(failure: { outcome: Failure['outcome']; code: string }): void {
    this.#settle({ ...failure, tookMs: monotonicMs() - this.#startedAt });
  }

  #settle(attempt: Attempt): void {
    clearTimeout(this.#timer);
    const done = this.#done!;
    this.#done = null;
    done(attempt);
  }
}

function openTcp(target: Target): Exchange {
  const waiter = new Waiter();
  const socket = net.connect({
    host: target.ip,
    port: target.port,
    noDelay: true,
    ...(target.source === undefined ? {} : { localAddress: target.source }),
    ...(target.sourcePort === undefined ? {} : { localPort: target.sourcePort }),
  });
  let rest = '';
  socket.setEncoding('utf8');
  socket.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop()!;
    for (const line of lines) waiter.line(line);
  });
  socket.on('error', (error) => waiter.error(error));
  socket.on('end', () => waiter.end('closed', ''));
  const openedAt = monotonicMs();
  return {
    next(send, timeoutMs, done) {
      if (send) socket.write('\n');
      waiter.wait(
        send ? monotonicMs() : openedAt,
        timeoutMs ?? target.timeoutMs ?? DEFAULT_TIMEOUT_MS[target.proto],
        done,
      );
    },
    close() {
      if (socket.connecting) socket.destroy();
      else socket.resetAndDestroy();
    },
  };
}

function openUdp(target: Target): Exchange {
  const waiter = new Waiter();
  const socket = dgram.createSocket(target.ip.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', (bytes) => waiter.line(bytes.toString('utf8')));
  // After an ICMP error the socket goes on: only the exchange under way has failed.
  let failed: NodeJS.ErrnoException | null = null;
  socket.on('error', (error) => {
    failed = error;
    waiter.error(error);
  });
  let connected = false;
  let closed = false;
  let waiting = false;
  const send = (): void => {
    if (!connected) {
      waiting = true;
      return;
    }
    if (!closed) socket.send('\n', (error) => error && waiter.error(error));
  };
  const connect = (): void => {
    if (closed) return;
    socket.connect(target.port, target.ip, (error?: Error) => {
      if (error) return waiter.error(error);
      connected = true;
      if (waiting) send();
    });
  };
  if (target.source === undefined && target.sourcePort === undefined) connect();
  else socket.bind({ port: target.sourcePort ?? 0, ...(target.source && { address: target.source }) }, connect);
  return {
    next(_, timeoutMs, done) {
      const startedAt = monotonicMs();
      if (failed === null) send();
      waiter.wait(startedAt, timeoutMs ?? target.timeoutMs ?? DEFAULT_TIMEOUT_MS[target.proto], done);
    },
    close() {
      if (!closed) socket.close();
      closed = true;
    },
  };
}

/** Opens a connection or a UDP socket to a target. Nothing is thrown: failures come with the next answer. */
export function openExchange(target: Target): Exchange {
  return target.proto === 'TCP' ? openTcp(target) : openUdp(target);
}

/** One attempt: open, wait for an answer, close. */
export function attempt(target: Target, done: (attempt: Attempt) => void): void {
  const exchange = openExchange(target);
  exchange.next(target.proto === 'UDP', undefined, (result) => {
    exchange.close();
    done(result);
  });
}
