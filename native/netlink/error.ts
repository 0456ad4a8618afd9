// The kernel's refusals, with the extended acknowledgement where it gives one (include/uapi/linux/netlink.h).
import { constants } from 'node:os';
import { Attributes, HEADER_LENGTH, type Message, NLM_F_ACK_TLVS } from './message.ts';

const NLMSGERR_ATTR_MSG = 1;
const NLMSGERR_ATTR_OFFS = 2;
// Codes whose name Node lacks or gives two of.
const EXTRA_NAMES: Record<number, string> = {
  11: 'EAGAIN',
  105: 'ENOBUFS',
  85: 'ERESTART',
  95: 'EOPNOTSUPP',
  61: 'ENODATA',
};

const names = new Map<number, string>(Object.entries(constants.errno).map(([name, code]) => [code, name]));
for (const [code, name] of Object.entries(EXTRA_NAMES)) names.set(Number(code), name);

/** The symbolic name of an errno, such as `ENOENT`. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

export interface Acknowledgement {
  /** Sequence number of the request. */
  readonly seq: number;
  /** 0 for success, else the positive errno. */
  readonly errno: number;
  /** The kernel's own words, '' when it gives none. */
  readonly text: string;
  /** Offset in the request of the attribute at fault, or null. */
  readonly offset: number | null;
}

/** Decodes an NLMSG_ERROR message (errno 0 is an acknowledgement). */
export function decodeAcknowledgement(message: Message): Acknowledgement {
  const { buffer, start, end } = message;
  const errno = -buffer.readInt32LE(start);
  let text = '';
  let offset: number | null = null;
  if (message.flags & NLM_F_ACK_TLVS) {
    // The request's header comes back, and with it its payload unless NETLINK_CAP_ACK capped it.
    const capped = (message.flags & 0x100) !== 0;
    const original = buffer.readUInt32LE(start + 4);
    const at = start + 4 + (capped ? HEADER_LENGTH : (original + 3) & ~3);
    if (at <= end) {
      const attributes = new Attributes(buffer, at, end);
      text = attributes.text(NLMSGERR_ATTR_MSG) ?? '';
      const where = attributes.range(NLMSGERR_ATTR_OFFS);
      if (where) offset = buffer.readUInt32LE(where[0]);
    }
  }
  return { seq: message.seq, errno, text, offset };
}

/** A request the kernel refused, or whose outcome is unknown. */
export class NetlinkError extends Error {
  readonly errno: number;
  readonly code: string;
  readonly offset: number | null;
  constructor(request: string, errno: number, text = '', offset: number | null = null) {
    super(`${request}: ${errnoName(errno)}${text === '' ? '' : ` (${text})`}`);
    this.name = 'NetlinkError';
    this.errno = errno;
    this.code = errnoName(errno);
    this.offset = offset;
  }
}
