// Numbers of include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h that this project uses.
import type { Family } from '../ip.ts';

export const NFNL_SUBSYS_NFTABLES = 10;
export const NFNL_MSG_BATCH_BEGIN = 0x10;
export const NFNL_MSG_BATCH_END = 0x11;
export const NFNL_BATCH_GENID = 1;
export const NFNLGRP_NFTABLES = 7;

export const NFT_MSG = {
  newTable: 0,
  getTable: 1,
  delTable: 2,
  newChain: 3,
  getChain: 4,
  delChain: 5,
  newRule: 6,
  getRule: 7,
  delRule: 8,
  newSet: 9,
  getSet: 10,
  delSet: 11,
  newSetElem: 12,
  getSetElem: 13,
  delSetElem: 14,
  newGen: 15,
  getGen: 16,
} as const;

/** nfgenmsg.nfgen_family. */
export const NFPROTO: Readonly<Record<Family, number>> = { IPv4: 2, IPv6: 10 };

/** Verdict codes as they stand in an NFTA_VERDICT_CODE attribute. */
export const VERDICT = { drop: 0, accept: 1, jump: -3, goto: -4, return: -5 } as const;
export type VerdictCode = (typeof VERDICT)[keyof typeof VERDICT];

export const SET_FLAG = {
  anonymous: 1,
  constant: 2,
  interval: 4,
  map: 8,
  timeout: 16,
  dynamic: 32,
  concat: 128,
} as const;
/** NFTA_SET_DATA_TYPE of a verdict map. */
export const TYPE_VERDICT = 0xffffff00;

/** The verdict register, and the n-th 32-bit register. */
export const REG_VERDICT = 0;
export const reg = (n: number): number => 8 + n;

export const META = { priority: 2, mark: 3, iifname: 6, l4proto: 16 } as const;
export const CT = { state: 0, status: 2 } as const;
export const PAYLOAD = { network: 1, transport: 2 } as const;
export const CMP = { eq: 0, ne: 1 } as const;
export const DYNSET = { add: 0, update: 1, delete: 2 } as const;
export const FIB_RESULT_ADDRTYPE = 3;
export const FIB_FLAG = { saddr: 1, daddr: 2 } as const;
/** RTN_LOCAL of include/uapi/linux/rtnetlink.h: what fib answers for an address of this host. */
export const RTN_LOCAL = 2;
export const NAT_RANGE = { mapIps: 1, protoSpecified: 2, protoRandomFully: 16 } as const;
export const REJECT_ICMP_UNREACH = 0;

/** struct nfgenmsg { u8 family; u8 version; be16 res_id } as a latin1 string. */
export function nfgenmsg(family: number, resId = 0): string {
  return String.fromCharCode(family, 0, resId >> 8, resId & 255);
}

/** Values of a register in host order, as latin1 bytes. */
export function u32Host(value: number): string {
  return String.fromCharCode(value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24);
}

export function u32FromHost(bytes: string): number {
  return (
    (bytes.charCodeAt(0) | (bytes.charCodeAt(1) << 8) | (bytes.charCodeAt(2) << 16) | (bytes.charCodeAt(3) << 24)) >>> 0
  );
}
