// What rules are made of: pieces of nf_tables expressions and the text nft prints for them. Registers are the 32-bit
// ones; a rule may only read registers it has written itself. `a` = registers of an address.
import { type Family, ipBytes, maskBytes, parseCidr } from '../../native/ip.ts';
import {
  CMP,
  CT,
  FIB_FLAG,
  FIB_RESULT_ADDRTYPE,
  META,
  NAT_RANGE,
  PAYLOAD,
  REJECT_ICMP_UNREACH,
  RTN_LOCAL,
  reg,
  u32Host,
  VERDICT,
} from '../../native/nftables/constants.ts';
import type { Expression } from '../../native/nftables/expression.ts';
import type { DetectLocal, NodeSettings } from '../service-plan.ts';
import { addressLength } from './fields.ts';

export interface Rule {
  readonly text: string;
  readonly expressions: readonly Expression[];
}

export type Piece = readonly Expression[];

export const immediateZero = '\0\0\0\0';
const ALL_ONES = '\xff\xff\xff\xff';
const HIGHEST_BIT = 0x80000000;

/** Expressions and texts of one family. */
export class Vocabulary {
  readonly family: Family;
  readonly a: number;
  readonly ip: 'ip' | 'ip6';
  readonly zeroMask: string;

  constructor(family: Family) {
    this.family = family;
    this.a = addressLength(family) / 4;
    this.ip = family === 'IPv4' ? 'ip' : 'ip6';
    this.zeroMask = family === 'IPv4' ? '0.0.0.0' : '::';
  }

  address(which: 'saddr' | 'daddr', register: number): Piece {
    const offsets = this.family === 'IPv4' ? { saddr: 12, daddr: 16 } : { saddr: 8, daddr: 24 };
    const len = addressLength(this.family);
    return [{ name: 'payload', base: PAYLOAD.network, offset: offsets[which], len, dreg: reg(register) }];
  }

  /** Frontend key: destination address, protocol, destination port. `anyAddress` zeroes the address (node ports). */
  key(register: number, anyAddress = false): Piece {
    const len = addressLength(this.family);
    const zero = '\0'.repeat(len);
    const r = reg(register);
    return [
      ...this.address('daddr', register),
      ...(anyAddress ? [{ name: 'bitwise', sreg: r, dreg: r, len, mask: zero, xor: zero } as const] : []),
      { name: 'meta', key: META.l4proto, dreg: reg(register + this.a) },
      { name: 'payload', base: PAYLOAD.transport, offset: 2, len: 2, dreg: reg(register + this.a + 1) },
    ];
  }

  keyText(anyAddress = false): string {
    return `${this.ip} daddr${anyAddress ? ` & ${this.zeroMask}` : ''} . meta l4proto . th dport`;
  }

  /** Registers after a key that starts at 0. */
  get afterKey(): number {
    return this.a + 2;
  }

  /** An address lies in a CIDR, or with `negate` outside. */
  inCidr(which: 'saddr' | 'daddr', text: string, negate = false): Rule {
    const cidr = parseCidr(text)!;
    const len = addressLength(this.family);
    const whole = cidr.prefix === len * 8;
    const mask = maskBytes(this.family, cidr.prefix);
    const masking: Piece = whole
      ? []
      : [{ name: 'bitwise', sreg: reg(0), dreg: reg(0), len, mask, xor: '\0'.repeat(len) }];
    return {
      text: `${this.ip} ${which} ${negate ? '!= ' : ''}${whole ? cidr.base : cidr.text}`,
      expressions: [...this.address(which, 0), ...masking, cmp(negate ? CMP.ne : CMP.eq, 0, ipBytes(cidr.base)!)],
    };
  }

  isLoopback(which: 'saddr' | 'daddr', negate = false): Rule {
    return this.inCidr(which, this.family === 'IPv4' ? '127.0.0.0/8' : '::1/128', negate);
  }

  /** The packet comes from a pod of this node, or with `negate` not (S-64). */
  detect(detector: DetectLocal, negate: boolean): Rule {
    if (detector.by === 'cidr') return this.inCidr('saddr', detector.cidr, negate);
    const exact = detector.by === 'interface';
    const name = exact ? detector.name : detector.prefix;
    return {
      text: `iifname ${negate ? '!= ' : ''}"${name}${exact ? '' : '*'}"`,
      expressions: [
        { name: 'meta', key: META.iifname, dreg: reg(0) },
        cmp(negate ? CMP.ne : CMP.eq, 0, exact ? name.padEnd(16, '\0') : name),
      ],
    };
  }

  /** Port unreachable. */
  get reject(): Expression {
    return { name: 'reject', type: REJECT_ICMP_UNREACH, code: this.family === 'IPv4' ? 3 : 4 };
  }
}

/** One rule of the conditions and the end of several. */
export const rule = (...parts: readonly Rule[]): Rule => ({
  text: parts.map((part) => part.text).join(' '),
  expressions: parts.flatMap((part) => part.expressions),
});

export const lookup = (set: string, register: number, dreg: number | null = null, inverted = false): Expression => ({
  name: 'lookup',
  set,
  sreg: reg(register),
  dreg,
  inverted,
});
export const verdict = (code: number, chain: string | null = null): Expression => ({ name: 'verdict', code, chain });
export const drop = verdict(VERDICT.drop);
export const jump = (chain: string): Expression => verdict(VERDICT.jump, chain);
export const cmp = (op: number, register: number, data: string): Expression => ({
  name: 'cmp',
  op,
  sreg: reg(register),
  data,
});
export const maskBits = (register: number, bits: number): Expression => ({
  name: 'bitwise',
  sreg: reg(register),
  dreg: reg(register),
  len: 4,
  mask: u32Host(bits),
  xor: immediateZero,
});
export const ctStateNew: Piece = [
  { name: 'ct', key: CT.state, dreg: reg(0) },
  maskBits(0, 8),
  cmp(CMP.ne, 0, immediateZero),
];
export function isLocal(which: 'saddr' | 'daddr'): Piece {
  return [
    { name: 'fib', result: FIB_RESULT_ADDRTYPE, flags: FIB_FLAG[which], dreg: reg(0) },
    cmp(CMP.eq, 0, u32Host(RTN_LOCAL)),
  ];
}

export const hex32 = (value: number): string => `0x${(value >>> 0).toString(16).padStart(8, '0')}`;

/** The bit that marks packets for masquerading (S-66). */
export const markBit = (node: NodeSettings): number => (1 << node.masqueradeBit) >>> 0;

/** Sets the mark bit and keeps the others. */
export function mark(node: NodeSettings): Piece {
  const bit = markBit(node);
  return [
    { name: 'meta', key: META.mark, dreg: reg(0) },
    { name: 'bitwise', sreg: reg(0), dreg: reg(0), len: 4, mask: u32Host(~bit), xor: u32Host(bit) },
    { name: 'metaSet', key: META.mark, sreg: reg(0) },
  ];
}

export const markText = (node: NodeSettings): string => `meta mark set meta mark | ${hex32(markBit(node))}`;

export const masquerade: Expression = { name: 'masquerade', flags: NAT_RANGE.protoRandomFully };

/** Masquerades a packet that carries the mark bit, and takes the bit from it (S-66). */
export function masqueradeMarked(node: NodeSettings): Rule {
  const bit = markBit(node);
  // nft takes the mask of the highest bit for a prefix.
  const isMarked = bit === HIGHEST_BIT ? 'meta mark != 0x00000000/1' : `meta mark & ${hex32(bit)} != 0x00000000`;
  return {
    text: `${isMarked} meta mark set meta mark ^ ${hex32(bit)} masquerade fully-random`,
    expressions: [
      { name: 'meta', key: META.mark, dreg: reg(0) },
      maskBits(0, bit),
      cmp(CMP.ne, 0, immediateZero),
      { name: 'meta', key: META.mark, dreg: reg(0) },
      { name: 'bitwise', sreg: reg(0), dreg: reg(0), len: 4, mask: ALL_ONES, xor: u32Host(bit) },
      { name: 'metaSet', key: META.mark, sreg: reg(0) },
      masquerade,
    ],
  };
}
