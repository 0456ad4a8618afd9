// Talks to IPVS: applies changes in batches, reads virtual servers and real servers back. A batch is no transaction:
// the kernel applies or refuses every message on its own, in order.
import { Breather } from '../breather.ts';
import { type Acknowledgement, NetlinkError } from '../netlink/error.ts';
import { GENL_HEADER_LENGTH, genlmsghdr, resolveFamily } from '../netlink/generic.ts';
import { Attributes, type Message, MessageWriter, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST } from '../netlink/message.ts';
import { readRefusals } from '../netlink/refusals.ts';
import { NETLINK_GENERIC, NetlinkSocket } from '../netlink/socket.ts';
import {
  ATTR,
  COMMAND,
  INFO,
  IPVS_FAMILY,
  readDestination,
  readServer,
  readStatistics,
  type ServerStatistics,
  serverIdProblem,
  writeServer,
} from './message.ts';
import { type RealServerState, type ServerId, serverKey, type VirtualServer } from './objects.ts';
import { type IpvsRequest, requestProblem, requestText, writeRequest } from './requests.ts';

const MiB = 1 << 20;
const EINTR = 4;
const EINVAL = 22;
const ATTEMPTS = 5;
/** Messages of a datagram; about 28 kB. More of them are slower. */
const DATAGRAM = 200;

export interface IpvsFailure {
  readonly request: IpvsRequest;
  /** `code` is the kernel's, such as EEXIST, or EINVAL with the field at fault for what was not sent at all (V-53). */
  readonly error: NetlinkError;
}

/** Of idle connections, in seconds. */
export interface IpvsTimeouts {
  readonly tcp: number;
  readonly tcpFin: number;
  readonly udp: number;
}

export type IpvsSocket = Pick<NetlinkSocket, 'nextSeq' | 'send' | 'receive' | 'dump' | 'dumpInParts' | 'close'>;

export interface IpvsOptions {
  /** By default a socket of the calling thread's network namespace. */
  readonly socket?: IpvsSocket;
}

export class IpvsConnection {
  readonly #socket: IpvsSocket;
  readonly #family: number;
  readonly #writer = new MessageWriter(64 * 1024);
  #listing = false;
  #messagesSent = 0;

  private constructor(socket: IpvsSocket, family: number) {
    this.#socket = socket;
    this.#family = family;
  }

  /**
   * Null when this kernel has no IPVS: module ip_vs is not there and cannot be loaded. To ask makes the kernel load it.
   * @throws NetlinkError when generic netlink refuses.
   */
  static open(options: IpvsOptions = {}): IpvsConnection | null {
    const socket =
      options.socket ?? new NetlinkSocket({ protocol: NETLINK_GENERIC, sendBuffer: 4 * MiB, receiveBuffer: 4 * MiB });
    let family: number | null = null;
    try {
      family = resolveFamily(socket, IPVS_FAMILY);
    } finally {
      if (family === null) socket.close();
    }
    return family === null ? null : new IpvsConnection(socket, family);
  }

  close(): void {
    this.#socket.close();
  }

  /** Messages of all kinds sent so far, including those that only read. */
  get messagesSent(): number {
    return this.#messagesSent;
  }

  /** Version of IPVS such as `1.2.1`, and the size of the connection table (0 where the kernel lets it grow). */
  info(): { version: string; tableSize: number } {
    let info = { version: '', tableSize: 0 };
    this.#ask('info of IPVS', COMMAND.getInfo, (m) => {
      const a = attributes(m);
      const version = a.hostU32(INFO.version) ?? 0;
      const parts = [version >> 16, (version >> 8) & 255, version & 255];
      info = { version: parts.join('.'), tableSize: a.hostU32(INFO.tableSize) ?? 0 };
    });
    return info;
  }

  /**
   * All virtual servers of this network namespace, in no useful order; those of firewall marks and of protocols other
   * than TCP, UDP and SCTP are left out. Nothing else may be asked before the promise settles.
   * @throws NetlinkError EINTR when changes interrupted five listings in a row. Linux 7 does not tell when its table was
   * resized meanwhile; then one may be told twice, and another one not.
   */
  async servers(): Promise<VirtualServer[]> {
    const breather = new Breather();
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const out = new Map<string, VirtualServer>();
      let told = 0;
      const seq = this.#start(COMMAND.getServer, NLM_F_DUMP);
      const parts = this.#socket.dumpInParts('list virtual servers', this.#finish(), seq, (m) => {
        const server = readServer(m);
        if (server === null) return;
        out.set(serverKey(server), server);
        told++;
      });
      this.#listing = true;
      try {
        for (const end of parts) {
          if (end === true && told === out.size) return [...out.values()];
          if (breather.due) await breather.rest();
        }
      } finally {
        this.#listing = false;
      }
    }
    throw interrupted('list virtual servers');
  }

  /**
   * The real servers of a virtual server, whatever their forwarding method, in no useful order. None also when there
   * is no such virtual server: the kernel does not tell.
   * @throws NetlinkError EINTR as `servers`; RangeError that names the field when `server` cannot be.
   */
  realServers(server: ServerId): RealServerState[] {
    const name = `list real servers of ${serverKey(server)}`;
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const out: RealServerState[] = [];
      const seq = this.#start(COMMAND.getDestinations, NLM_F_DUMP);
      this.#identify(name, server);
      const complete = this.#socket.dump(name, this.#finish(), seq, (m) => {
        const destination = readDestination(m);
        if (destination !== null) out.push(destination);
      });
      if (complete) return out;
    }
    throw interrupted(name);
  }

  /** What a virtual server has seen, or null when there is none. @throws RangeError as `realServers`. */
  statistics(server: ServerId): ServerStatistics | null {
    const name = `statistics of ${serverKey(server)}`;
    let statistics: ServerStatistics | null = null;
    const seq = this.#start(COMMAND.getServer, NLM_F_ACK);
    this.#identify(name, server);
    try {
      this.#socket.dump(name, this.#finish(), seq, (m) => {
        statistics = readStatistics(m);
      });
    } catch (error) {
      if (!(error instanceof NetlinkError) || error.code !== 'ESRCH') throw error;
    }
    return statistics;
  }

  /**
   * Applies requests in order, with turns for the event loop between datagrams.
   * @returns those that failed, in order; all others are done.
   * @throws NetlinkError when the outcome is unknown: read back what there is.
   */
  async apply(requests: readonly IpvsRequest[]): Promise<IpvsFailure[]> {
    const failures: IpvsFailure[] = [];
    const breather = new Breather();
    for (let from = 0; from < requests.length; from += DATAGRAM) {
      if (breather.due) await breather.rest();
      this.#applySome(requests.slice(from, from + DATAGRAM), failures);
    }
    return failures;
  }

  #applySome(requests: readonly IpvsRequest[], failures: IpvsFailure[]): void {
    const problems = requests.map(requestProblem);
    const sent = requests.filter((_, i) => problems[i] === null);
    const refusals = this.#send(sent);
    let place = 0;
    for (const [i, request] of requests.entries()) {
      const problem = problems[i] ?? null;
      const refusal = problem === null ? refusals.get(place++) : { errno: EINVAL, text: problem };
      if (refusal === undefined) continue;
      failures.push({ request, error: new NetlinkError(requestText(request), refusal.errno, refusal.text) });
    }
  }

  /** Refusals by place. */
  #send(requests: readonly IpvsRequest[]): Map<number, Acknowledgement> {
    if (requests.length === 0) return new Map();
    this.#reset();
    const seqs = requests.map((request, i) => {
      const seq = this.#socket.nextSeq();
      writeRequest(this.#writer, this.#family, i === requests.length - 1 ? NLM_F_ACK : 0, seq, request);
      return seq;
    });
    this.#messagesSent += seqs.length;
    this.#socket.send(this.#writer.bytes());
    return readRefusals(this.#socket, 'change IPVS', seqs);
  }

  /** 0 leaves a timeout as it is (V-5). @throws RangeError that names the field; NetlinkError when refused. */
  setTimeouts(timeouts: IpvsTimeouts): void {
    for (const [field, seconds] of Object.entries(timeouts)) {
      if (!Number.isInteger(seconds) || seconds < 0 || seconds > 0x7fffffff / 1000)
        throw new RangeError(`IPVS timeouts: ${field} ${seconds} is not a number of seconds`);
    }
    const seq = this.#start(COMMAND.setConfig, NLM_F_ACK);
    for (const field of ['tcp', 'tcpFin', 'udp'] as const) this.#writer.attrHostU32(ATTR[field], timeouts[field]);
    this.#socket.dump('set the timeouts of IPVS', this.#finish(), seq, () => {});
  }

  timeouts(): IpvsTimeouts {
    let timeouts: IpvsTimeouts = { tcp: 0, tcpFin: 0, udp: 0 };
    this.#ask('timeouts of IPVS', COMMAND.getConfig, (m) => {
      const a = attributes(m);
      const of = (type: number): number => a.hostU32(type) ?? 0;
      timeouts = { tcp: of(ATTR.tcp), tcpFin: of(ATTR.tcpFin), udp: of(ATTR.udp) };
    });
    return timeouts;
  }

  /** Deletes all virtual servers of this network namespace, those of others included. */
  flush(): void {
    this.#ask('flush IPVS', COMMAND.flush, () => {});
  }

  /** A request without attributes, answered by messages and an acknowledgement. */
  #ask(name: string, command: number, visit: (message: Message) => void): void {
    const seq = this.#start(command, NLM_F_ACK);
    this.#socket.dump(name, this.#finish(), seq, visit);
  }

  #identify(name: string, server: ServerId): void {
    const problem = serverIdProblem(server);
    if (problem !== null) throw new RangeError(`${name}: ${problem}`);
    writeServer(this.#writer, server, null);
  }

  #reset(): void {
    // Its answer would be read as part of the listing, and lost.
    if (this.#listing) throw new Error('IPVS is asked for something while its virtual servers are being listed');
    this.#writer.reset();
  }

  #start(command: number, flags: number): number {
    this.#reset();
    const seq = this.#socket.nextSeq();
    this.#writer.startMessage(this.#family, NLM_F_REQUEST | flags, seq);
    this.#writer.raw(genlmsghdr(command));
    return seq;
  }

  #finish(): Buffer {
    this.#messagesSent++;
    this.#writer.endMessage();
    return this.#writer.bytes();
  }
}

const attributes = (m: Message): Attributes => new Attributes(m.buffer, m.start + GENL_HEADER_LENGTH, m.end);

const interrupted = (name: string): NetlinkError => new NetlinkError(name, EINTR, 'changes interrupted it five times');
