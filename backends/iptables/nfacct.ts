// Counters of the kernel's accounting subsystem that two rules feed, for metrics (I-56, P-81). They outlive the rules
// that name them and keep what they have counted.
import { decodeAcknowledgement } from '../../native/netlink/error.ts';
import {
  Attributes,
  MessageWriter,
  messages,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLMSG_ERROR,
} from '../../native/netlink/message.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from '../../native/netlink/socket.ts';
import { INVALID_COUNTER } from './fixed-rules.ts';
import { LOCALHOST_COUNTER } from './service-rules.ts';

const NFNL_SUBSYS_ACCT = 7;
const NFNL_MSG_ACCT_NEW = (NFNL_SUBSYS_ACCT << 8) | 0;
const NFNL_MSG_ACCT_GET = (NFNL_SUBSYS_ACCT << 8) | 1;
const NFACCT_NAME = 1;
const NFACCT_PKTS = 2;
const NLM_F_REQUEST = 1;
const NLM_F_CREATE = 0x400;
/** struct nfgenmsg: any family, version 0. */
const ANY_FAMILY = '\0\0\0\0';
/** What the kernel says of one that exists. */
const EBUSY = 16;

export const COUNTERS: readonly string[] = [INVALID_COUNTER, LOCALHOST_COUNTER];

export type AcctSocket = Pick<NetlinkSocket, 'nextSeq' | 'send' | 'receive' | 'dump' | 'close'>;

const open = (): AcctSocket => new NetlinkSocket({ protocol: NETLINK_NETFILTER, receiveBuffer: 1 << 20 });

/** Makes sure that the counters exist. @returns those that do: none where the kernel has no accounting. */
export function createCounters(socket: AcctSocket = open()): string[] {
  try {
    return COUNTERS.filter((name) => {
      const errno = create(socket, name);
      return errno === 0 || errno === EBUSY;
    });
  } finally {
    socket.close();
  }
}

/** @returns the errno of the answer, 0 for success. */
function create(socket: AcctSocket, name: string): number | null {
  const writer = new MessageWriter(256);
  const seq = socket.nextSeq();
  writer.startMessage(NFNL_MSG_ACCT_NEW, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, seq);
  writer.raw(ANY_FAMILY);
  writer.attrString(NFACCT_NAME, name);
  writer.endMessage();
  socket.send(writer.bytes());
  for (let datagram = socket.receive(); datagram !== null; datagram = socket.receive()) {
    for (const message of messages(datagram)) {
      if (message.seq === seq && message.type === NLMSG_ERROR) return decodeAcknowledgement(message).errno;
    }
  }
  return null;
}

/** Packets counted so far, by counter. @throws NetlinkError when the kernel has no accounting. */
export function readCounters(socket: AcctSocket = open()): Map<string, bigint> {
  const out = new Map<string, bigint>();
  try {
    const writer = new MessageWriter(256);
    const seq = socket.nextSeq();
    writer.startMessage(NFNL_MSG_ACCT_GET, NLM_F_REQUEST | NLM_F_DUMP, seq);
    writer.raw(ANY_FAMILY);
    writer.endMessage();
    socket.dump('list accounting objects', writer.bytes(), seq, ({ buffer, start, end }) => {
      const object = new Attributes(buffer, start + ANY_FAMILY.length, end);
      const name = object.text(NFACCT_NAME);
      if (name !== undefined && COUNTERS.includes(name)) out.set(name, object.u64(NFACCT_PKTS) ?? 0n);
    });
    return out;
  } finally {
    socket.close();
  }
}
