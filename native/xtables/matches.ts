// Structs of the matches that kube-proxy's rules use: include/uapi/linux/netfilter/xt_*.h.
import { u32Host } from '../nftables/constants.ts';
import { type Layout, layout, textAt, textField, u16, u16At, u32At, zeros } from './layout.ts';

const COMMENT_SIZE = 256;
const ANY_PORT = u16(0) + u16(0xffff);

/** struct xt_comment_info. */
export const comment: Layout<string> = layout({
  name: 'comment',
  revision: 0,
  size: COMMENT_SIZE,
  write: (text) => textField('comment', text, COMMENT_SIZE),
  parse: (info) => textAt(info, 0, COMMENT_SIZE),
});

const destinationPort = (info: string, at: number, end: number): number | null =>
  u16At(info, at) === 0 && u16At(info, at + 2) === end ? null : u16At(info, at);

const range = (port: number | null): string => (port === null ? ANY_PORT : u16(port) + u16(port));

/** struct xt_tcp { u16 spts[2], dpts[2]; u8 option, flg_mask, flg_cmp, invflags }: a destination port, or null for any. */
export const tcp: Layout<number | null> = layout<number | null>({
  name: 'tcp',
  revision: 0,
  size: 16,
  write: (port) => ANY_PORT + range(port) + zeros(8),
  parse: (info) => destinationPort(info, 4, 0xffff),
});

/** struct xt_udp { u16 spts[2], dpts[2]; u8 invflags }. */
export const udp: Layout<number | null> = layout<number | null>({
  name: 'udp',
  revision: 0,
  size: 16,
  write: (port) => ANY_PORT + range(port) + zeros(8),
  parse: (info) => destinationPort(info, 4, 0xffff),
});

const SCTP_DEST_PORTS = 2;

/** struct xt_sctp_info { u16 dpts[2], spts[2]; u32 chunkmap[64], chunk_match_type; flag_info[4]; int flag_count; u32 flags, invflags }. */
export const sctp: Layout<number | null> = layout<number | null>({
  name: 'sctp',
  revision: 0,
  size: 296,
  write: (port) =>
    u16(port ?? 0) +
    u16(port ?? 0) +
    zeros(4 + 256 + 4) +
    '\xff\0\0'.repeat(4) +
    zeros(4) +
    u32Host(port === null ? 0 : SCTP_DEST_PORTS) +
    zeros(8),
  parse: (info) => (u32At(info, 284) === 0 ? null : u16At(info, 0)),
});

/** struct xt_statistic_info, mode random: a probability as a number of 2³¹. */
export const statistic: Layout<number> = layout({
  name: 'statistic',
  revision: 0,
  size: 24,
  // The counter of the other mode shares the union with the probability. iptables leaves the value there as well,
  // and compares it.
  write: (threshold) => zeros(4) + u32Host(threshold) + zeros(4) + u32Host(threshold) + zeros(8),
  parse: (info) => u32At(info, 4),
  significant: (info) => info.slice(0, 8),
});

export interface Recent {
  readonly list: string;
  readonly op: 'set' | 'check';
  /** 0 for `set`. */
  readonly seconds: number;
}

const RECENT_NAME = 200;
const RECENT_SET = 2;
/** XT_RECENT_CHECK | XT_RECENT_REAP. */
const RECENT_CHECK = 0x21;

/** struct xt_recent_mtinfo_v1 { u32 seconds, hit_count; u8 check_set, invert; char name[200]; u8 side; mask[16] }: the source with a full mask. */
export const recent: Layout<Recent> = layout<Recent>({
  name: 'recent',
  revision: 1,
  size: 232,
  write: ({ list, op, seconds }) =>
    u32Host(seconds) +
    zeros(4) +
    String.fromCharCode(op === 'set' ? RECENT_SET : RECENT_CHECK, 0) +
    textField('recent list', list, RECENT_NAME) +
    zeros(2) +
    '\xff'.repeat(16) +
    zeros(4),
  parse: (info) => {
    const list = textAt(info, 10, RECENT_NAME);
    const op = info.charCodeAt(8) === RECENT_SET ? 'set' : 'check';
    return list === undefined ? undefined : { list, op, seconds: u32At(info, 0) };
  },
});

const RECENT_MASK = 212;
const WRITTEN_MASK = '\xff'.repeat(4) + zeros(12);

/**
 * IPv4: iptables fills in 4 of the 16 bytes when it is given `--mask 255.255.255.255`, as rules saved and restored do;
 * they mean the same.
 */
export function fillIPv4RecentMask(info: string): string {
  const end = RECENT_MASK + WRITTEN_MASK.length;
  if (info.slice(RECENT_MASK, end) !== WRITTEN_MASK) return info;
  return info.slice(0, RECENT_MASK) + '\xff'.repeat(WRITTEN_MASK.length) + info.slice(end);
}

const TYPE_LOCAL = 4;

/** struct xt_addrtype_info_v1 { u16 source, dest; u32 flags }: the side whose address is of this host. */
export const addrtype: Layout<'src' | 'dst'> = layout<'src' | 'dst'>({
  name: 'addrtype',
  revision: 1,
  size: 8,
  write: (side) => u16(side === 'src' ? TYPE_LOCAL : 0) + u16(side === 'dst' ? TYPE_LOCAL : 0) + zeros(4),
  parse: (info) => (u16At(info, 0) !== 0 ? 'src' : 'dst'),
});

/** Bits of xt_conntrack_mtinfo3.state_mask, in the order in which iptables lists them. */
const STATES = { INVALID: 1, NEW: 8, RELATED: 4, ESTABLISHED: 2, DNAT: 0x80 } as const;

export interface Conntrack {
  /** Read back in iptables' order of listing: INVALID, NEW, RELATED, ESTABLISHED, DNAT. */
  readonly states: readonly (keyof typeof STATES)[];
  readonly not: boolean;
}

const MATCH_STATE = 1;

/** struct xt_conntrack_mtinfo3, of which only the states are used. */
export const conntrack: Layout<Conntrack> = layout<Conntrack>({
  name: 'conntrack',
  revision: 3,
  size: 168,
  write: ({ states, not }) =>
    zeros(146) +
    u16(MATCH_STATE) +
    u16(not ? MATCH_STATE : 0) +
    u16(states.reduce((mask, state) => mask | STATES[state], 0)) +
    zeros(16),
  parse: (info) => ({
    states: (Object.keys(STATES) as (keyof typeof STATES)[]).filter((s) => (u16At(info, 150) & STATES[s]) !== 0),
    not: u16At(info, 148) !== 0,
  }),
});

export interface Mark {
  readonly value: number;
  readonly mask: number;
  readonly not: boolean;
}

/** struct xt_mark_mtinfo1 { u32 mark, mask; u8 invert }. */
export const mark: Layout<Mark> = layout<Mark>({
  name: 'mark',
  revision: 1,
  size: 16,
  write: ({ value, mask, not }) => u32Host(value) + u32Host(mask) + (not ? '\x01' : '\0') + zeros(7),
  parse: (info) => ({ value: u32At(info, 0), mask: u32At(info, 4), not: info.charCodeAt(8) !== 0 }),
});

const NFACCT_NAME = 32;

/** struct xt_nfacct_match_info_v1 { char name[32]; pointer }: a counter object, which must exist. */
export const nfacct: Layout<string> = layout({
  name: 'nfacct',
  revision: 1,
  size: 40,
  write: (name) => textField('nfacct', name, NFACCT_NAME) + zeros(8),
  parse: (info) => textAt(info, 0, NFACCT_NAME),
  significant: (info) => info.slice(0, NFACCT_NAME),
});
