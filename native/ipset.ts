// Removes sets of the kernel's ipset subsystem by name (include/uapi/linux/netfilter/ipset/ip_set.h).
import { existsSync } from 'node:fs';
import { type Acknowledgement, errnoName } from './netlink/error.ts';
import { MessageWriter, NLM_F_ACK, NLM_F_EXCL, NLM_F_REQUEST } from './netlink/message.ts';
import { readRefusals } from './netlink/refusals.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from './netlink/socket.ts';

const NFNL_SUBSYS_IPSET = 6;
const IPSET_CMD_DESTROY = 3;
const IPSET_ATTR_PROTOCOL = 1;
const IPSET_ATTR_SETNAME = 2;
/** The oldest protocol that kernels still speak; later ones changed nothing here. */
const PROTOCOL = '\x06';
/** struct nfgenmsg: any family, version 0. */
const ANY_FAMILY = '\0\0\0\0';
const ENOENT = 2;
/** Rules, or other sets, refer to it. */
const IPSET_ERR_BUSY = 4100;

export type SetSocket = Pick<NetlinkSocket, 'nextSeq' | 'send' | 'receive' | 'close'>;

export interface SetRemoval {
  readonly removed: readonly string[];
  /** Names of sets that stay, with the reason. Rules that were deleted just now may refer to them a little longer. */
  readonly busy: ReadonlyMap<string, string>;
}

const open = (): SetSocket => new NetlinkSocket({ protocol: NETLINK_NETFILTER, receiveBuffer: 1 << 20 });

/** Whether this kernel can have sets now: to ask it would load the subsystem. */
export function setsPossible(): boolean {
  return existsSync('/sys/module/ip_set');
}

/**
 * Removes the sets of these names as far as they exist.
 * @throws NetlinkError when the outcome is unknown; Error for any refusal but that a set is in use
 */
export function destroySets(names: readonly string[], socket: SetSocket = open()): SetRemoval {
  try {
    if (names.length === 0) return { removed: [], busy: new Map() };
    const writer = new MessageWriter(64 * names.length);
    const seqs = names.map((name, i) => {
      const seq = socket.nextSeq();
      // Without EXCL the removal of a set that does not exist succeeds.
      const flags = NLM_F_REQUEST | NLM_F_EXCL | (i === names.length - 1 ? NLM_F_ACK : 0);
      writer.startMessage((NFNL_SUBSYS_IPSET << 8) | IPSET_CMD_DESTROY, flags, seq);
      writer.raw(ANY_FAMILY);
      writer.attr(IPSET_ATTR_PROTOCOL, PROTOCOL);
      writer.attrString(IPSET_ATTR_SETNAME, name);
      writer.endMessage();
      return seq;
    });
    socket.send(writer.bytes());
    return outcome(names, readRefusals(socket, 'remove ipsets', seqs));
  } finally {
    socket.close();
  }
}

function outcome(names: readonly string[], refusals: ReadonlyMap<number, Acknowledgement>): SetRemoval {
  const removed: string[] = [];
  const busy = new Map<string, string>();
  for (const [i, name] of names.entries()) {
    const refusal = refusals.get(i);
    if (!refusal) removed.push(name);
    else if (refusal.errno === IPSET_ERR_BUSY) busy.set(name, 'it is in use');
    else if (refusal.errno !== ENOENT) throw new Error(`remove ipset ${name}: ${errnoName(refusal.errno)}`);
  }
  return { removed, busy };
}
