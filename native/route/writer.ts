// Makes dummy links, binds addresses to links and routes them, thousands in batches. Its socket has the strict check on,
// so that the kernel filters dumps of addresses by link.
import { FAMILIES, familyOf, ipBytes } from '../ip.ts';
import { type Acknowledgement, errnoName, NetlinkError } from '../netlink/error.ts';
import {
  type Message,
  MessageWriter,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
} from '../netlink/message.ts';
import { readRefusals } from '../netlink/refusals.ts';
import { NETLINK_ROUTE, NetlinkSocket } from '../netlink/socket.ts';
import {
  ADDRESS_FLAG,
  addressHeader,
  IFA_ADDRESS,
  IFA_CACHEINFO,
  IFA_LOCAL,
  IFINFOMSG_LENGTH,
  IFLA_IFNAME,
  IFLA_INFO_KIND,
  IFLA_LINKINFO,
  type IndexedAddress,
  localRouteHeader,
  NEVER_PREFERRED,
  ROUTE_PROTOCOL,
  RTA_DST,
  RTA_OIF,
  RTA_PREFSRC,
  readAddress,
  readLink,
} from './message.ts';

const RTM = {
  newLink: 16,
  delLink: 17,
  getLink: 18,
  newAddress: 20,
  delAddress: 21,
  getAddress: 22,
  newRoute: 24,
  delRoute: 25,
} as const;
/** The loopback link has this index in every network namespace. */
const LOOPBACK = 1;
const REPLACE = NLM_F_CREATE | NLM_F_REPLACE;
const CREATE = NLM_F_CREATE | NLM_F_EXCL;
const EINTR = 4;
const ENODEV = 19;
const EINVAL = 22;
const ATTEMPTS = 5;
/** Addresses of a datagram; about 16 kB. */
const DATAGRAM = 200;

/** An address that could not be added, deleted or routed. */
export interface AddressFailure {
  readonly ip: string;
  readonly error: NetlinkError;
}

export type RouteSocket = Pick<NetlinkSocket, 'nextSeq' | 'send' | 'sendAsync' | 'receive' | 'dump' | 'close'>;

export interface RouteWriterOptions {
  /** By default a socket of the calling thread's network namespace. */
  readonly socket?: RouteSocket;
}

export class RouteWriter {
  readonly #socket: RouteSocket;
  readonly #writer = new MessageWriter(16 * 1024);
  #sending = false;

  constructor(options: RouteWriterOptions = {}) {
    this.#socket = options.socket ?? new NetlinkSocket({ protocol: NETLINK_ROUTE });
  }

  close(): void {
    this.#socket.close();
  }

  /** The index of a link, or null when there is none of that name. */
  linkIndex(name: string): number | null {
    let index: number | null = null;
    const visit = (m: Message): void => {
      index = readLink(m.buffer.subarray(m.start, m.end)).index;
    };
    this.#link('get link', RTM.getLink, { name, expected: 'ENODEV', visit });
    return index;
  }

  /**
   * Creates a link of type dummy, which is left down; one of that name that exists is taken as it is.
   * @returns its index. @throws NetlinkError EOPNOTSUPP when the kernel has no dummy links.
   */
  createDummy(name: string): number {
    this.#link('add dummy link', RTM.newLink, { name, expected: 'EEXIST', kind: 'dummy' });
    const index = this.linkIndex(name);
    if (index === null) throw new NetlinkError(`add dummy link ${name}`, ENODEV, 'it vanished at once');
    return index;
  }

  /** Deletes a link and with it all its addresses, which is the fast way. @returns false when there is none. */
  deleteLink(name: string): boolean {
    return this.#link('delete link', RTM.delLink, { name, expected: 'ENODEV' });
  }

  /**
   * The addresses of a link, both families.
   * @throws NetlinkError ENODEV without such a link; EINTR when changes interrupted five listings in a row.
   */
  addresses(index: number): IndexedAddress[] {
    return FAMILIES.flatMap((family) => {
      const name = `list ${family} addresses of link ${index}`;
      for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
        const out: IndexedAddress[] = [];
        const seq = this.#start(RTM.getAddress, NLM_F_DUMP);
        this.#writer.raw(addressHeader(family, index));
        const complete = this.#socket.dump(name, this.#finish(), seq, (m) => {
          const address = readAddress(m.buffer.subarray(m.start, m.end));
          // A kernel without IPv6 answers for all families.
          if (address?.index === index && address.family === family) out.push(address);
        });
        if (complete) return out;
      }
      throw new NetlinkError(name, EINTR, 'changes interrupted it five times');
    });
  }

  /**
   * Binds addresses with the longest prefix, IPv6 without duplicate address detection and deprecated, so that the kernel
   * does not pick one as source of what goes elsewhere; those that are bound already become so. Nothing else may be asked
   * before the promise settles.
   * @returns those that failed. @throws NetlinkError when the outcome is unknown.
   */
  addAddresses(index: number, ips: readonly string[]): Promise<AddressFailure[]> {
    return this.#change('add', index, ips, 'EEXIST');
  }

  /** The same for removing addresses that have the longest prefix; those that are not bound count as done. */
  deleteAddresses(index: number, ips: readonly string[]): Promise<AddressFailure[]> {
    return this.#change('delete', index, ips, 'EADDRNOTAVAIL');
  }

  /**
   * What the node sends to addresses that are bound to a link gets `source`, of the same family, from now on; else it has
   * the address itself. For IPv4 this ends with the link; for IPv6 call `deleteSources` after that.
   * @returns those that failed. @throws NetlinkError when the outcome is unknown.
   */
  async setSources(index: number, ips: readonly string[], source: string): Promise<AddressFailure[]> {
    // The kernel takes no IPv6 route over a link that is down, nor one that comes before its own.
    const ipv6 = familyOf(source) === 'IPv6';
    const failures = await this.#inBatches('route', ips, null, (bytes, seq, flags) => {
      this.#route(RTM.newRoute, flags | REPLACE, seq, { bytes, link: ipv6 ? LOOPBACK : index, source });
    });
    if (!ipv6) return failures;
    const failed = new Set(failures.map(({ ip }) => ip));
    const routed = ips.filter((ip) => !failed.has(ip));
    return failures.concat(await this.#deleteRoutes(index, routed));
  }

  /** Deletes what `setSources` has left for IPv6 addresses. The same errors. */
  deleteSources(ips: readonly string[]): Promise<AddressFailure[]> {
    return this.#deleteRoutes(LOOPBACK, ips);
  }

  #deleteRoutes(link: number, ips: readonly string[]): Promise<AddressFailure[]> {
    return this.#inBatches('delete route', ips, 'ESRCH', (bytes, seq, flags) => {
      this.#route(RTM.delRoute, flags, seq, { bytes, link });
    });
  }

  #change(verb: 'add' | 'delete', index: number, ips: readonly string[], done: string): Promise<AddressFailure[]> {
    const [type, kind] = verb === 'add' ? [RTM.newAddress, REPLACE] : [RTM.delAddress, 0];
    return this.#inBatches(`${verb} address`, ips, done, (bytes, seq, flags) => {
      this.#writer.startMessage(type, flags | kind, seq);
      this.#address(index, bytes);
      if (verb === 'add' && bytes.length > 4) this.#writer.attr(IFA_CACHEINFO, NEVER_PREFERRED);
      this.#writer.endMessage();
    });
  }

  /** Sends a message for each address. @param done The error that means that there was nothing to do. */
  async #inBatches(
    what: string,
    ips: readonly string[],
    done: string | null,
    write: (bytes: string, seq: number, flags: number) => void,
  ): Promise<AddressFailure[]> {
    const failures: AddressFailure[] = [];
    const fail = (ip: string, errno: number, text: string): void => {
      failures.push({ ip, error: new NetlinkError(`${what} ${ip}`, errno, text) });
    };
    for (const ip of ips) if (ipBytes(ip) === null) fail(ip, EINVAL, 'no IP address');
    const valid = failures.length === 0 ? ips : ips.filter((ip) => ipBytes(ip) !== null);
    for (let from = 0; from < valid.length; from += DATAGRAM) {
      const some = valid.slice(from, from + DATAGRAM);
      for (const [place, ack] of await this.#send(what, some, write)) {
        if (errnoName(ack.errno) !== done) fail(some[place]!, ack.errno, ack.text);
      }
    }
    return failures;
  }

  /** Refusals by place. */
  async #send(
    what: string,
    ips: readonly string[],
    write: (bytes: string, seq: number, flags: number) => void,
  ): Promise<Map<number, Acknowledgement>> {
    this.#reset();
    const seqs = ips.map((ip, place) => {
      const seq = this.#socket.nextSeq();
      write(ipBytes(ip)!, seq, NLM_F_REQUEST | (place === ips.length - 1 ? NLM_F_ACK : 0));
      return seq;
    });
    this.#sending = true;
    try {
      // From a thread of the pool: the kernel walks a list for each IPv6 address that it deletes.
      await this.#socket.sendAsync(this.#writer.bytes());
      return readRefusals(this.#socket, `${what} of ${ips.length} addresses`, seqs);
    } finally {
      this.#sending = false;
    }
  }

  #address(index: number, bytes: string): void {
    const family = bytes.length === 4 ? 'IPv4' : 'IPv6';
    // Without it an IPv6 address is tentative at first, and answers nobody.
    const flags = family === 'IPv6' ? ADDRESS_FLAG.noDad : 0;
    this.#writer.raw(addressHeader(family, index, bytes.length * 8, flags));
    this.#writer.attr(IFA_LOCAL, bytes);
    this.#writer.attr(IFA_ADDRESS, bytes);
  }

  /** A local route to one address. */
  #route(type: number, flags: number, seq: number, to: { bytes: string; link: number; source?: string }): void {
    const { bytes, link, source } = to;
    this.#writer.startMessage(type, flags, seq);
    const protocol = type === RTM.newRoute ? ROUTE_PROTOCOL.static : ROUTE_PROTOCOL.any;
    this.#writer.raw(localRouteHeader(bytes.length === 4 ? 'IPv4' : 'IPv6', protocol));
    this.#writer.attr(RTA_DST, bytes);
    this.#writer.attr(RTA_OIF, String.fromCharCode(link & 255, (link >> 8) & 255, (link >> 16) & 255, link >>> 24));
    if (source !== undefined) this.#writer.attr(RTA_PREFSRC, ipBytes(source)!);
    this.#writer.endMessage();
  }

  /** A request about the link of this name, a new one if it has a kind. @returns false when refused with `expected`. */
  #link(
    what: string,
    type: number,
    options: { name: string; expected: string; kind?: string; visit?: (message: Message) => void },
  ): boolean {
    const { name, kind } = options;
    const seq = this.#start(type, NLM_F_ACK | (kind === undefined ? 0 : CREATE));
    this.#writer.raw('\0'.repeat(IFINFOMSG_LENGTH));
    this.#writer.attrString(IFLA_IFNAME, name);
    if (kind !== undefined) {
      const nest = this.#writer.nest(IFLA_LINKINFO);
      this.#writer.attrString(IFLA_INFO_KIND, kind);
      this.#writer.endNest(nest);
    }
    try {
      this.#socket.dump(`${what} ${name}`, this.#finish(), seq, options.visit ?? (() => {}));
      return true;
    } catch (error) {
      if (error instanceof NetlinkError && error.code === options.expected) return false;
      throw error;
    }
  }

  #reset(): void {
    // Its answer would be read together with those of the batch, and lost.
    if (this.#sending) throw new Error('rtnetlink is asked for something while a batch is under way');
    this.#writer.reset();
  }

  #start(type: number, flags: number): number {
    this.#reset();
    const seq = this.#socket.nextSeq();
    this.#writer.startMessage(type, NLM_F_REQUEST | flags, seq);
    return seq;
  }

  #finish(): Buffer {
    this.#writer.endMessage();
    return this.#writer.bytes();
  }
}
