// What rules are made of: pieces of nf_tables expressions and the text nft prints for them. Registers are the 32-bit
// ones; a rule may only read registers it has written itself. `a` = registers of an address.
import type { Family } from '../../native/ip.ts';
import {
  CMP,
  CT,
  FIB_FLAG,
  FIB_RESULT_ADDRTYPE,
  META,
  PAYLOAD,
  REG_VERDICT,
  RTN_LOCAL,
  reg,
  u32Host,
  VERDICT,
} from '../../native/nftables/constants.ts';
import type { Expression } from '../../native/nftables/expression.ts';
import { addressLength } from '../nft-table/fields.ts';
import type { NodeSettings } from '../service-plan.ts';
import type { SetName } from './schema.ts';

export interface Rule {
  readonly text: string;
  readonly expressions: readonly Expression[];
}

export type Piece = readonly Expression[];

export const immediateZero = '\0\0\0\0';
export const ALL_ONES = '\xff\xff\xff\xff';
export const WORD_BIT = 0x80000000;
/** Clears the slot (13 bits) of an affinity word. */
export const SID_MASK = 0xffffe000;

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
}

export const lookup = (set: SetName, register: number, dreg: number | null = null, inverted = false): Expression => ({
  name: 'lookup',
  set,
  sreg: reg(register),
  dreg,
  inverted,
});
export const goto = (set: SetName, register: number): Expression => lookup(set, register, REG_VERDICT);
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
export const loadPriority = (register: number): Expression => ({
  name: 'meta',
  key: META.priority,
  dreg: reg(register),
});
export const setPriority: Expression = { name: 'metaSet', key: META.priority, sreg: reg(0) };
export const ctStateNew: Piece = [
  { name: 'ct', key: CT.state, dreg: reg(0) },
  maskBits(0, 8),
  cmp(CMP.ne, 0, immediateZero),
];
/** A word that a lookup left in R0 → skb priority → the chain it stands for. */
export const followWord = (actions: SetName): Piece => [setPriority, loadPriority(0), goto(actions, 0)];

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
