// Listens to what others do to our tables and chains (NFNLGRP_NFTABLES). Polled: a poll without news is one cheap read.

import { NetlinkError } from '../native/netlink/error.ts';
import { Attributes, messages } from '../native/netlink/message.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from '../native/netlink/socket.ts';
import { NFNL_SUBSYS_NFTABLES, NFNLGRP_NFTABLES, NFT_MSG } from '../native/nftables/constants.ts';

/** A change that somebody else made. */
export interface ForeignChange {
  /** NFT_MSG. */
  readonly type: number;
  readonly table: string;
  /** Of a chain or a rule, '' otherwise. */
  readonly chain: string;
}

/**
 * What a change means: it `touched` something of ours, it may have taken something of ours away (`check` is cheap
 * then), or it is another service proxy at work.
 */
export type Concern = 'touched' | 'check' | 'rival' | null;

export interface ForeignActivity {
  readonly touched: boolean;
  readonly check: boolean;
  /** `name (pid N)` of the last one who did. */
  readonly culprit: string | null;
  /** Notifications were lost: only the generation can tell whether somebody changed something. */
  readonly overflow: boolean;
  readonly rival: boolean;
}

/** Attribute in which a message names its table: 1 in all of them. */
const TABLE_ATTRIBUTE = 1;

export class RulesetMonitor {
  readonly #socket: NetlinkSocket;
  readonly #own: number;
  readonly #concern: (change: ForeignChange) => Concern;

  /** `ownPortId`: changes made through that socket are ours. */
  constructor(ownPortId: number, concern: (change: ForeignChange) => Concern) {
    this.#own = ownPortId;
    this.#concern = concern;
    this.#socket = new NetlinkSocket({
      protocol: NETLINK_NETFILTER,
      groups: [NFNLGRP_NFTABLES],
      receiveBuffer: 4 << 20,
    });
  }

  /** What happened since the last call. */
  drain(): ForeignActivity {
    const found = { touched: false, check: false, rival: false };
    let pending = false;
    let culprit: string | null = null;
    let overflow = false;
    for (;;) {
      try {
        const datagram = this.#socket.receive();
        if (datagram === null) return { ...found, culprit, overflow };
        for (const message of messages(datagram)) {
          if (message.portId === this.#own || message.type >> 8 !== NFNL_SUBSYS_NFTABLES) continue;
          const attributes = new Attributes(message.buffer, message.start + 4, message.end);
          const type = message.type & 0xff;
          if (type === NFT_MSG.newGen) {
            // The last message of each commit names the process.
            if (pending) culprit = `${attributes.text(3) ?? 'a process'} (pid ${attributes.u32(2) ?? 0})`;
            pending = false;
          } else {
            const table = attributes.text(TABLE_ATTRIBUTE) ?? '';
            const concern = this.#concern({ type, table, chain: chainOf(type, attributes) });
            if (concern === null) continue;
            found[concern] = true;
            pending ||= concern !== 'rival';
          }
        }
      } catch (error) {
        if (!(error instanceof NetlinkError) || error.code !== 'ENOBUFS') throw error;
        overflow = true;
      }
    }
  }

  close(): void {
    this.#socket.close();
  }
}

function chainOf(type: number, attributes: Attributes): string {
  const CHAIN_NAME = 3;
  const RULE_CHAIN = 2;
  if (type === NFT_MSG.newChain || type === NFT_MSG.delChain) return attributes.text(CHAIN_NAME) ?? '';
  return type === NFT_MSG.newRule || type === NFT_MSG.delRule ? (attributes.text(RULE_CHAIN) ?? '') : '';
}
