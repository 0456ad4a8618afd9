// Generic netlink: families have names, and numbers that differ from boot to boot (include/uapi/linux/genetlink.h).
// struct genlmsghdr { u8 command; u8 version; u16 reserved } follows nlmsghdr, whose type is the family's number.
import { NetlinkError } from './error.ts';
import { Attributes, MessageWriter, NLM_F_ACK, NLM_F_REQUEST } from './message.ts';
import type { NetlinkSocket } from './socket.ts';

export const GENL_HEADER_LENGTH = 4;

const GENL_ID_CTRL = 0x10;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;

/** The header of generic netlink, for MessageWriter.raw. */
export const genlmsghdr = (command: number, version = 1): string => String.fromCharCode(command, version, 0, 0);

/**
 * The number of a family, or null when this kernel has none of that name. The kernel tries to load its module first.
 * @throws NetlinkError for any other refusal.
 */
export function resolveFamily(socket: Pick<NetlinkSocket, 'nextSeq' | 'dump'>, family: string): number | null {
  const writer = new MessageWriter(64);
  const seq = socket.nextSeq();
  writer.startMessage(GENL_ID_CTRL, NLM_F_REQUEST | NLM_F_ACK, seq);
  writer.raw(genlmsghdr(CTRL_CMD_GETFAMILY));
  writer.attrString(CTRL_ATTR_FAMILY_NAME, family);
  writer.endMessage();
  let id: number | null = null;
  try {
    socket.dump(`generic netlink family ${family}`, writer.bytes(), seq, (m) => {
      id = new Attributes(m.buffer, m.start + GENL_HEADER_LENGTH, m.end).hostU16(CTRL_ATTR_FAMILY_ID) ?? null;
    });
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ENOENT') return null;
    throw error;
  }
  return id;
}
