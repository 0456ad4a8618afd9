// Lists and deletes UDP entries of the connection tracking table through ctnetlink (S-80…S-85).
import type { Family } from '../ip.ts';
import { NetlinkError } from '../netlink/error.ts';
import { MessageWriter, NLM_F_ACK } from '../netlink/message.ts';
import { readRefusals } from '../netlink/refusals.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from '../netlink/socket.ts';
import { entryReader, type UdpEntry, type UdpFilter, writeDelete, writeDump } from './message.ts';

/** S-85: attempts in total, for a listing and for a deletion. */
const ATTEMPTS = 5;
/** Deletions sent with one write; about 50 kB. */
const DELETIONS = 256;
const ENOENT = 2;
const EINTR = 4;

export interface Listing {
  readonly entries: readonly UdpEntry[];
  /** False when every attempt was interrupted by a change: entries may be missing (S-85). */
  readonly complete: boolean;
}

/** What the connection needs of a NetlinkSocket. */
export type ConntrackSocket = Pick<NetlinkSocket, 'nextSeq' | 'send' | 'receive' | 'dump' | 'close'>;

export interface ConntrackOptions {
  /** By default a socket of the calling thread's network namespace. */
  readonly socket?: ConntrackSocket;
}

export class ConntrackConnection {
  readonly #socket: ConntrackSocket;
  readonly #writer = new MessageWriter(64 * 1024);

  constructor(options: ConntrackOptions = {}) {
    this.#socket = options.socket ?? new NetlinkSocket({ protocol: NETLINK_NETFILTER, receiveBuffer: 8 << 20 });
  }

  close(): void {
    this.#socket.close();
  }

  /**
   * All UDP entries of a family.
   * @throws NetlinkError when the kernel refuses; the round is to be skipped then (S-85).
   */
  listUdp(filter: { readonly family: Family }): Listing {
    return this.#list({ family: filter.family });
  }

  /**
   * UDP entries with this original destination; without `dst` all with this port, as node ports need (S-82). The
   * kernel still walks its table, but hands over only entries of this port (since 5.8).
   * @throws NetlinkError as listUdp; RangeError when `dst` is no address of the family.
   */
  listUdpTo(filter: { readonly family: Family; readonly dst?: string; readonly dport: number }): Listing {
    return this.#list(filter);
  }

  #list(filter: UdpFilter): Listing {
    const read = entryReader(filter);
    let entries: UdpEntry[] = [];
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      entries = [];
      const seq = this.#socket.nextSeq();
      this.#writer.reset();
      writeDump(this.#writer, seq, filter);
      const complete = this.#socket.dump('conntrack dump', this.#writer.bytes(), seq, (message) => {
        const entry = read(message.buffer, message.start, message.end);
        if (entry !== null) entries.push(entry);
      });
      if (complete) return { entries, complete };
    }
    return { entries, complete: false };
  }

  /**
   * Deletes entries, each by its full tuple and id. One that is gone already counts as done.
   * @returns how many were there and are deleted.
   * @throws NetlinkError for any other refusal; entries after the refused one may be deleted or not.
   */
  delete(entries: readonly UdpEntry[]): number {
    let deleted = 0;
    for (let at = 0; at < entries.length; at += DELETIONS) {
      let left = entries.slice(at, at + DELETIONS);
      for (let attempt = 1; left.length > 0; attempt++) {
        const outcome = this.#deleteSome(left);
        deleted += left.length - outcome.gone - outcome.interrupted.length;
        left = outcome.interrupted;
        if (left.length > 0 && attempt === ATTEMPTS) throw new NetlinkError('conntrack delete', EINTR);
      }
    }
    return deleted;
  }

  #deleteSome(entries: readonly UdpEntry[]): { gone: number; interrupted: UdpEntry[] } {
    const writer = this.#writer;
    writer.reset();
    // Only the last asks for an acknowledgement.
    const seqs = entries.map((entry, i) => {
      const seq = this.#socket.nextSeq();
      writeDelete(writer, i === entries.length - 1 ? NLM_F_ACK : 0, seq, entry);
      return seq;
    });
    this.#socket.send(writer.bytes());
    let gone = 0;
    const interrupted: UdpEntry[] = [];
    let refusal: NetlinkError | null = null;
    for (const [i, ack] of readRefusals(this.#socket, 'conntrack delete', seqs)) {
      if (ack.errno === ENOENT) gone++;
      else if (ack.errno === EINTR) interrupted.push(entries[i]!);
      else refusal ??= new NetlinkError('conntrack delete', ack.errno, ack.text, ack.offset);
    }
    if (refusal !== null) throw refusal;
    return { gone, interrupted };
  }
}
