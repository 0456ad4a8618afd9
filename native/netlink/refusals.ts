// Reads the answers to requests sent with one write of which the last alone asks for an acknowledgement: the kernel
// works in order, reports each refusal, asked or not, and its word on the last says that all before it are done.
import { type Acknowledgement, decodeAcknowledgement, NetlinkError } from './error.ts';
import { messages, NLMSG_ERROR } from './message.ts';
import type { NetlinkSocket } from './socket.ts';

const EAGAIN = 11;

/**
 * @param seqs Sequence numbers of the requests, in the order of the datagram; at least one.
 * @returns the refusals, by the place of the request in `seqs`.
 * @throws NetlinkError when the outcome is unknown: no reply (EAGAIN), or replies that were lost (ENOBUFS).
 */
export function readRefusals(
  socket: Pick<NetlinkSocket, 'receive'>,
  name: string,
  seqs: readonly number[],
): Map<number, Acknowledgement> {
  const places = new Map(seqs.map((seq, place) => [seq, place]));
  const refusals = new Map<number, Acknowledgement>();
  for (;;) {
    const datagram = socket.receive();
    if (datagram === null) throw new NetlinkError(name, EAGAIN, 'no reply');
    for (const message of messages(datagram)) {
      const place = places.get(message.seq);
      if (message.type !== NLMSG_ERROR || place === undefined) continue;
      const ack = decodeAcknowledgement(message);
      if (ack.errno !== 0) refusals.set(place, ack);
      if (place === seqs.length - 1) return refusals;
    }
  }
}
