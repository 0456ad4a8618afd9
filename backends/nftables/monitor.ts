// Listens to what others do to our tables (NFNLGRP_NFTABLES). Polled: a poll without news is one cheap read.

import { NetlinkError } from '../../native/netlink/error.ts';
import { Attributes, messages } from '../../native/netlink/message.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from '../../native/netlink/socket.ts';
import { NFNL_SUBSYS_NFTABLES, NFNLGRP_NFTABLES, NFT_MSG } from '../../native/nftables/constants.ts';
import { TABLE } from './schema.ts';

export interface ForeignActivity {
  /** Somebody else changed a table of ours. */
  readonly touched: boolean;
  /** `name (pid N)` of the last one who did. */
  readonly culprit: string | null;
  /** Notifications were lost: only the generation can tell whether somebody changed something. */
  readonly overflow: boolean;
  /** kube-proxy is changing a table of its own. */
  readonly kubeProxy: boolean;
}

/** Attribute in which a message names its table: 1 in all of them. */
const TABLE_ATTRIBUTE = 1;

export class RulesetMonitor {
  readonly #socket: NetlinkSocket;
  readonly #own: number;

  /** `ownPortId`: changes made through that socket are ours. */
  constructor(ownPortId: number) {
    this.#own = ownPortId;
    this.#socket = new NetlinkSocket({
      protocol: NETLINK_NETFILTER,
      groups: [NFNLGRP_NFTABLES],
      receiveBuffer: 4 << 20,
    });
  }

  /** What happened since the last call. */
  drain(): ForeignActivity {
    let touched = false;
    let pending = false;
    let culprit: string | null = null;
    let overflow = false;
    let kubeProxy = false;
    for (;;) {
      try {
        const datagram = this.#socket.receive();
        if (datagram === null) return { touched, culprit, overflow, kubeProxy };
        for (const message of messages(datagram)) {
          if (message.portId === this.#own || message.type >> 8 !== NFNL_SUBSYS_NFTABLES) continue;
          const attributes = new Attributes(message.buffer, message.start + 4, message.end);
          const type = message.type & 0xff;
          if (type === NFT_MSG.newGen) {
            // The last message of each commit names the process.
            if (pending) culprit = `${attributes.text(3) ?? 'a process'} (pid ${attributes.u32(2) ?? 0})`;
            pending = false;
          } else if (attributes.text(TABLE_ATTRIBUTE) === TABLE) {
            touched = true;
            pending = true;
          } else if (attributes.text(TABLE_ATTRIBUTE) === 'kube-proxy' && type !== NFT_MSG.delTable) {
            kubeProxy = true;
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
