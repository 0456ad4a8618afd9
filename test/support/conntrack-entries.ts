// Puts entries into the connection tracking table of the calling thread's network namespace.
import { CT_NEW, CTA, startConntrack, UDP, type UdpEntry, writeTuple } from '../../native/conntrack/message.ts';
import { decodeAcknowledgement, errnoName } from '../../native/netlink/error.ts';
import { MessageWriter, messages, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL } from '../../native/netlink/message.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from '../../native/netlink/socket.ts';

const CTA_TIMEOUT = 7;
const CHUNK = 500;

export type NewEntry = Pick<UdpEntry, 'family' | 'original' | 'reply'> & { readonly zone?: number };

/** An entry as DNAT makes it: the reply comes from the endpoint instead of the dialed address. */
export function dnatEntry(
  family: UdpEntry['family'],
  client: readonly [string, number],
  dialed: readonly [string, number],
  endpoint: readonly [string, number] = dialed,
): NewEntry {
  return {
    family,
    original: { src: client[0], sport: client[1], dst: dialed[0], dport: dialed[1] },
    reply: { src: endpoint[0], sport: endpoint[1], dst: client[0], dport: client[1] },
  };
}

/** Creates entries with an hour to live; `protocol` 6 makes TCP entries of them. Throws when the kernel refuses one. */
export function createEntries(entries: readonly NewEntry[], protocol: number = UDP): void {
  const socket = new NetlinkSocket({ protocol: NETLINK_NETFILTER });
  try {
    for (let at = 0; at < entries.length; at += CHUNK) {
      const writer = new MessageWriter(1 << 17);
      let seq = 0;
      for (const { family, original, reply, zone } of entries.slice(at, at + CHUNK)) {
        seq = socket.nextSeq();
        startConntrack(writer, CT_NEW, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, seq, family);
        writeTuple(writer, CTA.tupleOrig, family, original, protocol);
        writeTuple(writer, CTA.tupleReply, family, reply, protocol);
        writer.attrU32(CTA_TIMEOUT, 3600);
        if (zone !== undefined) writer.attr(CTA.zone, String.fromCharCode(zone >> 8, zone & 255));
        if (protocol === 6) {
          // CTA_PROTOINFO { CTA_PROTOINFO_TCP { CTA_PROTOINFO_TCP_STATE established } }
          const info = writer.nest(4);
          const tcp = writer.nest(1);
          writer.attr(1, '\x03');
          writer.endNest(tcp);
          writer.endNest(info);
        }
        writer.endMessage();
      }
      socket.send(writer.bytes());
      for (let last = 0; last !== seq; ) {
        const datagram = socket.receive();
        if (datagram === null) throw new Error('no reply to new conntrack entries');
        for (const message of messages(datagram)) {
          const ack = decodeAcknowledgement(message);
          if (ack.errno !== 0) throw new Error(`new conntrack entry: ${errnoName(ack.errno)}`);
          last = ack.seq;
        }
      }
    }
  } finally {
    socket.close();
  }
}
