// The links and addresses of the calling thread's network namespace, through the `netlink` package. It carries the
// requests; the answers are decoded here: its decoders hide the interrupted flag, and one attribute of a length they
// do not expect fails the whole dump.
import { createNetlink, type NetlinkMessage, type NetlinkSocket, Protocol } from 'netlink';
import { NLM_F_DUMP, NLM_F_DUMP_INTR } from '../netlink/message.ts';
import {
  IFADDRMSG_LENGTH,
  IFINFOMSG_LENGTH,
  type IndexedAddress,
  LINK_FLAG,
  type Link,
  readAddress,
  readLink,
} from './message.ts';

const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_GETADDR = 22;
const ATTEMPTS = 5;
const TIMEOUT_MS = 5000;

/** An address of an interface (S-50). */
export interface InterfaceAddress extends IndexedAddress {
  /** Name of the interface. */
  readonly interface: string;
  /** The interface is a loopback one. */
  readonly loopback: boolean;
}

/** One request at a time on a socket of its own: the package cannot tell the parts of two dumps apart. */
async function withSocket<T>(act: (dump: (type: number, header: number) => Promise<NetlinkMessage[]>) => Promise<T>) {
  const socket: NetlinkSocket = createNetlink(Protocol.ROUTE);
  try {
    // Without a listener an error of the socket would end the process.
    const failed = new Promise<never>((_, reject) => socket.on('error', reject));
    failed.catch(() => undefined);
    return await act(async (type, header) => {
      for (let attempt = 1; ; attempt++) {
        const answer = socket.request(type, Buffer.alloc(header), { flags: NLM_F_DUMP, timeout: TIMEOUT_MS });
        const [messages] = await Promise.race([answer, failed]);
        const interrupted = messages.some((message) => message.flags & NLM_F_DUMP_INTR);
        if (!interrupted || attempt === ATTEMPTS) return messages;
      }
    });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new Error(`rtnetlink: ${text}`, { cause: error });
  } finally {
    socket.close();
  }
}

const payload = (message: NetlinkMessage): Buffer =>
  Buffer.from(message.data.buffer, message.data.byteOffset, message.data.length);

type Dump = (type: number, header: number) => Promise<NetlinkMessage[]>;

async function dumpLinks(dump: Dump): Promise<Link[]> {
  const answer = await dump(RTM_GETLINK, IFINFOMSG_LENGTH);
  return answer.filter(({ type }) => type === RTM_NEWLINK).map((message) => readLink(payload(message)));
}

/** All links. @throws Error when the kernel refuses or does not answer. */
export function listLinks(): Promise<Link[]> {
  return withSocket(dumpLinks);
}

/**
 * All IPv4 and IPv6 addresses of all links, in the kernel's order: by interface, primary before secondary. A dump
 * that a change interrupts is repeated, up to five times in all; the monitor reports such a change.
 * @throws Error when the kernel refuses or does not answer.
 */
export function listAddresses(): Promise<InterfaceAddress[]> {
  return withSocket(async (dump) => {
    const links = new Map((await dumpLinks(dump)).map((link) => [link.index, link]));
    const out: InterfaceAddress[] = [];
    for (const message of await dump(RTM_GETADDR, IFADDRMSG_LENGTH)) {
      const address = message.type === RTM_NEWADDR ? readAddress(payload(message)) : null;
      if (address === null) continue;
      const link = links.get(address.index);
      // An interface that came after the dump of the links: its address is in the next listing.
      if (link === undefined) continue;
      out.push({ interface: link.name, loopback: (link.flags & LINK_FLAG.loopback) !== 0, ...address });
    }
    return out;
  });
}
