// Structs of the targets that kube-proxy's rules use: include/uapi/linux/netfilter/xt_*.h, nf_nat.h, ipt_REJECT.h.
import { type Family, ipBytes, ipText } from '../ip.ts';
import { NAT_RANGE, u32Host } from '../nftables/constants.ts';
import { type Layout, layout, u32At, zeros } from './layout.ts';

export interface SetMark {
  readonly value: number;
  readonly mask: number;
}

/** struct xt_mark_tginfo2 { u32 mark, mask }: clear the bits of the mask, then xor the value in. */
export const setMark: Layout<SetMark> = layout({
  name: 'MARK',
  revision: 2,
  size: 8,
  write: ({ value, mask }) => u32Host(value) + u32Host(mask),
  parse: (info) => ({ value: u32At(info, 0), mask: u32At(info, 4) }),
});

const flagsOf = (randomFully: boolean): string => u32Host(randomFully ? NAT_RANGE.protoRandomFully : 0);

/** To the address of the interface; true: from random ports. IPv4: struct nf_nat_ipv4_multi_range_compat, IPv6: nf_nat_range. */
export const masquerade: Readonly<Record<Family, Layout<boolean>>> = {
  IPv4: layout({
    name: 'MASQUERADE',
    revision: 0,
    size: 24,
    write: (randomFully) => u32Host(1) + flagsOf(randomFully) + zeros(16),
    parse: (info) => u32At(info, 4) !== 0,
  }),
  IPv6: layout({
    name: 'MASQUERADE',
    revision: 0,
    size: 40,
    write: (randomFully) => flagsOf(randomFully) + zeros(36),
    parse: (info) => u32At(info, 0) !== 0,
  }),
};

const ICMP_PORT_UNREACHABLE: Readonly<Record<Family, number>> = { IPv4: 3, IPv6: 4 };

const rejectLayout = (family: Family): Layout<true> =>
  layout({
    name: 'REJECT',
    revision: 0,
    size: 8,
    write: () => u32Host(ICMP_PORT_UNREACHABLE[family]) + zeros(4),
    parse: () => true,
  });

/** With the default answer, port unreachable. */
export const reject: Readonly<Record<Family, Layout<true>>> = {
  IPv4: rejectLayout('IPv4'),
  IPv6: rejectLayout('IPv6'),
};

export interface Destination {
  /** Canonical. */
  readonly ip: string;
  readonly port: number;
}

const ADDRESS_SIZE = 16;

/** struct nf_nat_range2 { u32 flags; min_addr[16], max_addr[16]; be16 min_proto, max_proto, base_proto }: one address and port. */
const dnatLayout = (length: number): Layout<Destination> =>
  layout({
    name: 'DNAT',
    revision: 2,
    size: 48,
    write: ({ ip, port }) => {
      const address = ipBytes(ip) ?? '';
      if (address.length !== length) throw new RangeError(`DNAT to ${ip}: not an address of ${length} bytes`);
      const field = length === ADDRESS_SIZE ? address : address + zeros(ADDRESS_SIZE - length);
      const port16 = String.fromCharCode(port >> 8, port & 255);
      return u32Host(NAT_RANGE.mapIps | NAT_RANGE.protoSpecified) + field + field + port16 + port16 + zeros(8);
    },
    parse: (info) => ({
      ip: ipText(info.slice(4, 4 + length)),
      port: (info.charCodeAt(36) << 8) | info.charCodeAt(37),
    }),
  });

export const dnat: Readonly<Record<Family, Layout<Destination>>> = {
  IPv4: dnatLayout(4),
  IPv6: dnatLayout(ADDRESS_SIZE),
};
