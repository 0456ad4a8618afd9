// A netlink socket. libc opens and configures it; reading and writing go through `fs` on the descriptor, which is
// three times cheaper than a foreign call. The kernel queues all replies to a request before the write returns, so
// reads that follow a request do not block; a receive timeout guards against a reply that never comes.
import { closeSync, readSync, write, writeSync } from 'node:fs';
import { bind, getsockname, setsockopt, socket } from '../libc.ts';
import { decodeAcknowledgement, NetlinkError } from './error.ts';
import { type Message, messages, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR } from './message.ts';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_RCVTIMEO = 20;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;
export const NETLINK_GENERIC = 16;

const MiB = 1 << 20;
const EINTR = 4;
const EAGAIN = 11;
const ENOBUFS = 105;
const EMSGSIZE = 90;

export interface NetlinkSocketOptions {
  /** Netlink family, such as NETLINK_NETFILTER. */
  readonly protocol: number;
  /** Multicast groups to join; a socket with groups does not block when it is read. */
  readonly groups?: readonly number[];
  /** Wanted buffer sizes in bytes; without CAP_NET_ADMIN in the initial user namespace the kernel gives less. */
  readonly sendBuffer?: number;
  readonly receiveBuffer?: number;
}

/** errno of an exception thrown by `fs`, or 0. */
function errnoOf(error: unknown): number {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number' ? Math.abs(error.errno) : 0;
}

/** @throws NetlinkError when the message is a refusal. */
function endOfDump(name: string, message: Message): 'end' | 'interrupted' | null {
  if (message.type === NLMSG_DONE) {
    const errno = message.end - message.start >= 4 ? -message.buffer.readInt32LE(message.start) : 0;
    if (errno !== 0 && errno !== EINTR) throw new NetlinkError(name, errno);
    return errno === EINTR ? 'interrupted' : 'end';
  }
  if (message.type !== NLMSG_ERROR) return null;
  const ack = decodeAcknowledgement(message);
  if (ack.errno !== 0 && ack.errno !== EINTR) throw new NetlinkError(name, ack.errno, ack.text, ack.offset);
  return ack.errno === EINTR ? 'interrupted' : 'end';
}

export class NetlinkSocket {
  readonly fd: number;
  /** The address the kernel gave this socket; notifications carry it as the author of a change. */
  readonly portId: number;
  /** False when the kernel capped the send buffer: big messages must be split into chunks of sendLimit. */
  readonly sendForced: boolean;
  readonly #receive = Buffer.allocUnsafe(1 << 17);
  #seq = 1;

  constructor(options: NetlinkSocketOptions) {
    const groups = options.groups ?? [];
    this.fd = socket(AF_NETLINK, SOCK_RAW | (groups.length > 0 ? SOCK_NONBLOCK : 0), options.protocol);
    try {
      this.sendForced = this.#buffer(SO_SNDBUFFORCE, SO_SNDBUF, options.sendBuffer ?? MiB);
      this.#buffer(SO_RCVBUFFORCE, SO_RCVBUF, options.receiveBuffer ?? 4 * MiB);
      for (const option of [NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK]) {
        setsockopt(this.fd, SOL_NETLINK, option, 1);
      }
      const timeout = Buffer.alloc(16); // struct timeval
      timeout.writeBigInt64LE(10n, 0);
      setsockopt(this.fd, SOL_SOCKET, SO_RCVTIMEO, timeout);
      const address = Buffer.alloc(12); // struct sockaddr_nl { u16 family; u16 pad; u32 pid; u32 groups }
      address.writeUInt16LE(AF_NETLINK, 0);
      bind(this.fd, address);
      this.portId = getsockname(this.fd, 12).readUInt32LE(4);
      for (const group of groups) setsockopt(this.fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
    } catch (error) {
      closeSync(this.fd);
      throw error;
    }
  }

  /** Largest message that is sure to fit, in bytes, when the send buffer could not be forced. */
  static readonly sendLimit = 400_000;

  #buffer(forced: number, ordinary: number, bytes: number): boolean {
    try {
      setsockopt(this.fd, SOL_SOCKET, forced, bytes);
      return true;
    } catch {
      setsockopt(this.fd, SOL_SOCKET, ordinary, bytes);
      return false;
    }
  }

  close(): void {
    closeSync(this.fd);
  }

  nextSeq(): number {
    this.#seq = this.#seq >= 0x7fffffff ? 1 : this.#seq + 1;
    return this.#seq;
  }

  send(bytes: Buffer): void {
    try {
      writeSync(this.fd, bytes);
    } catch (error) {
      throw this.#failure('send', error);
    }
  }

  /** Writes from a thread of the pool, for batches whose commit takes long. */
  async sendAsync(bytes: Buffer): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      write(this.fd, bytes, (error) => (error ? reject(this.#failure('send', error)) : resolve()));
    });
  }

  /**
   * One datagram, valid until the next read; null when nothing is there (a socket with groups, or the receive timeout).
   * @throws NetlinkError ENOBUFS when the kernel dropped datagrams.
   */
  receive(): Buffer | null {
    for (;;) {
      try {
        const length = readSync(this.fd, this.#receive, 0, this.#receive.length, null);
        return this.#receive.subarray(0, length);
      } catch (error) {
        if (errnoOf(error) === EAGAIN) return null;
        if (errnoOf(error) !== EINTR) throw this.#failure('receive', error);
      }
    }
  }

  /**
   * Sends a dump or a get request and calls `visit` for each message of the answer.
   * @returns false when the kernel says that the dump was interrupted by a change and must be repeated.
   * @throws NetlinkError when the kernel refuses.
   */
  dump(name: string, request: Buffer, seq: number, visit: (message: Message) => void): boolean {
    for (const end of this.dumpInParts(name, request, seq, visit)) if (end !== null) return end;
    return false;
  }

  /**
   * The same as a generator that yields null after each datagram, so that the caller may do something else, and the
   * result at its end. Nothing else may use the socket before.
   */
  *dumpInParts(
    name: string,
    request: Buffer,
    seq: number,
    visit: (message: Message) => void,
  ): Generator<boolean | null, void> {
    this.send(request);
    let consistent = true;
    for (;;) {
      const datagram = this.receive();
      if (datagram === null) throw new NetlinkError(name, EAGAIN, 'no reply');
      for (const message of messages(datagram)) {
        if (message.seq !== seq) continue;
        if (message.flags & NLM_F_DUMP_INTR) consistent = false;
        const end = endOfDump(name, message);
        if (end === 'interrupted') return yield false;
        if (end === 'end') return yield consistent;
        visit(message);
      }
      yield null;
    }
  }

  #failure(call: string, error: unknown): Error {
    const errno = errnoOf(error);
    if (errno === ENOBUFS) return new NetlinkError(call, ENOBUFS, 'the receive buffer overflowed');
    if (errno === EMSGSIZE) return new NetlinkError(call, EMSGSIZE, 'larger than the send buffer');
    return errno === 0 ? (error as Error) : new NetlinkError(call, errno);
  }
}
