// Tells that addresses or links of the node have changed. It is polled: a poll of a quiet socket is one read.
import { NetlinkError } from '../netlink/error.ts';
import { messages } from '../netlink/message.ts';
import { NETLINK_ROUTE, NetlinkSocket } from '../netlink/socket.ts';

const RTNLGRP_LINK = 1;
const RTNLGRP_IPV4_IFADDR = 5;
const RTNLGRP_IPV6_IFADDR = 9;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
/** Of struct ifaddrmsg. */
const LINK_INDEX = 4;
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
   * count as a change; addresses of links that `ignored` names by index do not.
   * @throws NetlinkError when the socket cannot be read.
   */
  drain(ignored: (linkIndex: number) => boolean = () => false): boolean {
    let changed = false;
    for (;;) {
      try {
        const datagram = this.#socket.receive();
        if (datagram === null) return changed;
        for (const message of messages(datagram)) {
          const isAddress = message.type === RTM_NEWADDR || message.type === RTM_DELADDR;
          changed ||= !isAddress || !ignored(message.buffer.readUInt32LE(message.start + LINK_INDEX));
        }
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
