// Tells that addresses or links of the node have changed. It is polled: a poll of a quiet socket is one read.
import { NetlinkError } from '../netlink/error.ts';
import { NETLINK_ROUTE, NetlinkSocket } from '../netlink/socket.ts';

const RTNLGRP_LINK = 1;
const RTNLGRP_IPV4_IFADDR = 5;
const RTNLGRP_IPV6_IFADDR = 9;
const ENOBUFS = 105;

export interface RouteMonitorOptions {
  /** By default a socket of the calling thread's network namespace, in the groups of links and addresses. */
  readonly socket?: Pick<NetlinkSocket, 'receive' | 'close'>;
}

export class RouteMonitor {
  readonly #socket: Pick<NetlinkSocket, 'receive' | 'close'>;

  constructor(options: RouteMonitorOptions = {}) {
    this.#socket =
      options.socket ??
      new NetlinkSocket({
        protocol: NETLINK_ROUTE,
        groups: [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR],
        receiveBuffer: 1 << 20,
      });
  }

  /**
   * Whether an address or a link has changed since the last call. Never waits. Notifications the kernel had to drop
   * count as a change.
   * @throws NetlinkError when the socket cannot be read.
   */
  drain(): boolean {
    let changed = false;
    for (;;) {
      try {
        if (this.#socket.receive() === null) return changed;
        changed = true;
      } catch (error) {
        // The kernel reports the loss once; what it queued before is still there.
        if (!(error instanceof NetlinkError) || error.errno !== ENOBUFS) throw error;
        changed = true;
      }
    }
  }

  close(): void {
    this.#socket.close();
  }
}
