// The nf_tables expressions the project writes, as plain objects, and their encoding. What the kernel returns decodes
// to the same objects: attributes it adds (flags of 0, the operation of a bitwise) are defaults here.
// Source: include/uapi/linux/netfilter/nf_tables.h, enum nft_*_attributes. Bytes are latin1 strings.
import { Attributes, eachAttribute, type MessageWriter } from '../netlink/message.ts';
import { REG_VERDICT } from './constants.ts';

export type Expression =
  | {
      readonly name: 'payload';
      readonly base: number;
      readonly offset: number;
      readonly len: number;
      readonly dreg: number;
    }
  | { readonly name: 'meta'; readonly key: number; readonly dreg: number }
  | { readonly name: 'metaSet'; readonly key: number; readonly sreg: number }
  | { readonly name: 'ct'; readonly key: number; readonly dreg: number }
  | { readonly name: 'cmp'; readonly op: number; readonly sreg: number; readonly data: string }
  | {
      readonly name: 'bitwise';
      readonly sreg: number;
      readonly dreg: number;
      readonly len: number;
      readonly mask: string;
      readonly xor: string;
    }
  /** `dreg` null tests membership; REG_VERDICT makes it a verdict map. */
  | {
      readonly name: 'lookup';
      readonly set: string;
      readonly sreg: number;
      readonly dreg: number | null;
      readonly inverted: boolean;
    }
  | { readonly name: 'immediate'; readonly dreg: number; readonly data: string }
  | { readonly name: 'verdict'; readonly code: number; readonly chain: string | null }
  | { readonly name: 'fib'; readonly result: number; readonly flags: number; readonly dreg: number }
  | { readonly name: 'numgen'; readonly modulus: number; readonly dreg: number }
  | {
      readonly name: 'dynset';
      readonly set: string;
      readonly op: number;
      readonly sregKey: number;
      readonly sregData: number;
      readonly timeoutMs: number;
    }
  | { readonly name: 'dnat'; readonly family: number; readonly regAddr: number; readonly regProto: number }
  | { readonly name: 'masquerade'; readonly flags: number }
  | { readonly name: 'reject'; readonly type: number; readonly code: number }
  /** An extension of x_tables, run by nft_compat; `info` is its struct. */
  | {
      readonly name: 'match' | 'target';
      readonly extension: string;
      readonly revision: number;
      readonly info: string;
    }
  /** Starts at zero; its value is not read back. */
  | { readonly name: 'counter' }
  /** One this project never writes; `bytes` is its encoding. */
  | { readonly name: 'other'; readonly kernelName: string; readonly bytes: string };

const EXPR_NAME = 1;
const EXPR_DATA = 2;
const DATA_VALUE = 1;
const DATA_VERDICT = 2;
const VERDICT_CODE = 1;
const VERDICT_CHAIN = 2;
const LOOKUP_F_INV = 1;
const NUMGEN_RANDOM = 1;

function value(w: MessageWriter, type: number, bytes: string): void {
  const nest = w.nest(type);
  w.attr(DATA_VALUE, bytes);
  w.endNest(nest);
}

/** NFTA_DATA_VERDICT inside an attribute of `type`; also the data of a verdict-map element. */
export function writeVerdict(w: MessageWriter, type: number, code: number, chain: string | null): void {
  const outer = w.nest(type);
  const inner = w.nest(DATA_VERDICT);
  w.attrU32(VERDICT_CODE, code);
  if (chain !== null) w.attrString(VERDICT_CHAIN, chain);
  w.endNest(inner);
  w.endNest(outer);
}

const KERNEL_NAMES: Partial<Record<Expression['name'], string>> = {
  metaSet: 'meta',
  verdict: 'immediate',
  dnat: 'nat',
  masquerade: 'masq',
};

/** Writes one expression as a list element of NFTA_RULE_EXPRESSIONS. */
export function writeExpression(w: MessageWriter, e: Expression): void {
  const LIST_ELEM = 1;
  const element = w.nest(LIST_ELEM);
  w.attrString(EXPR_NAME, e.name === 'other' ? e.kernelName : (KERNEL_NAMES[e.name] ?? e.name));
  const data = w.nest(EXPR_DATA);
  switch (e.name) {
    case 'payload':
      w.attrU32(1, e.dreg);
      w.attrU32(2, e.base);
      w.attrU32(3, e.offset);
      w.attrU32(4, e.len);
      break;
    case 'meta':
      w.attrU32(2, e.key);
      w.attrU32(1, e.dreg);
      break;
    case 'metaSet':
      w.attrU32(2, e.key);
      w.attrU32(3, e.sreg);
      break;
    case 'ct':
      w.attrU32(2, e.key);
      w.attrU32(1, e.dreg);
      break;
    case 'cmp':
      w.attrU32(1, e.sreg);
      w.attrU32(2, e.op);
      value(w, 3, e.data);
      break;
    case 'bitwise':
      w.attrU32(1, e.sreg);
      w.attrU32(2, e.dreg);
      w.attrU32(3, e.len);
      value(w, 4, e.mask);
      value(w, 5, e.xor);
      break;
    case 'lookup':
      w.attrString(1, e.set);
      w.attrU32(2, e.sreg);
      if (e.dreg !== null) w.attrU32(3, e.dreg);
      if (e.inverted) w.attrU32(5, LOOKUP_F_INV);
      break;
    case 'immediate':
      w.attrU32(1, e.dreg);
      value(w, 2, e.data);
      break;
    case 'verdict':
      w.attrU32(1, REG_VERDICT);
      writeVerdict(w, 2, e.code, e.chain);
      break;
    case 'fib':
      w.attrU32(1, e.dreg);
      w.attrU32(2, e.result);
      w.attrU32(3, e.flags);
      break;
    case 'numgen':
      w.attrU32(1, e.dreg);
      w.attrU32(2, e.modulus);
      w.attrU32(3, NUMGEN_RANDOM);
      w.attrU32(4, 0);
      break;
    case 'dynset':
      w.attrString(1, e.set);
      w.attrU32(3, e.op);
      w.attrU32(4, e.sregKey);
      w.attrU32(5, e.sregData);
      if (e.timeoutMs > 0) w.attrU64(6, BigInt(e.timeoutMs));
      break;
    case 'dnat':
      w.attrU32(1, 1);
      w.attrU32(2, e.family);
      w.attrU32(3, e.regAddr);
      w.attrU32(5, e.regProto);
      w.attrU32(7, 3);
      break;
    case 'masquerade':
      w.attrU32(1, e.flags);
      break;
    case 'reject':
      w.attrU32(1, e.type);
      w.attr(2, String.fromCharCode(e.code));
      break;
    case 'match':
    case 'target':
      w.attrString(1, e.extension);
      w.attrU32(2, e.revision);
      w.attr(3, e.info);
      break;
    case 'counter':
      w.attrU64(1, 0n);
      w.attrU64(2, 0n);
      break;
    case 'other':
      w.raw(e.bytes);
      break;
  }
  w.endNest(data);
  w.endNest(element);
}

function decode(kernelName: string, a: Attributes, bytes: string): Expression {
  const u = (type: number): number => a.u32(type) ?? 0;
  // The kernel names every fourth 32-bit register by the 128-bit register it begins (nft_dump_register).
  const r = (type: number): number => (u(type) >= 1 && u(type) <= 4 ? 4 + 4 * u(type) : u(type));
  const data = (type: number): string => a.nested(type)?.bytes(DATA_VALUE) ?? '';
  switch (kernelName) {
    case 'payload':
      if (a.has(5)) break; // a payload write
      return { name: 'payload', base: u(2), offset: u(3), len: u(4), dreg: r(1) };
    case 'meta':
      return a.has(3) ? { name: 'metaSet', key: u(2), sreg: r(3) } : { name: 'meta', key: u(2), dreg: r(1) };
    case 'ct':
      return { name: 'ct', key: u(2), dreg: r(1) };
    case 'cmp':
      return { name: 'cmp', op: u(2), sreg: r(1), data: data(3) };
    case 'bitwise':
      if (u(6) !== 0) break; // a shift
      return { name: 'bitwise', sreg: r(1), dreg: r(2), len: u(3), mask: data(4), xor: data(5) };
    case 'lookup':
      return {
        name: 'lookup',
        set: a.text(1) ?? '',
        sreg: r(2),
        dreg: a.has(3) ? r(3) : null,
        inverted: (u(5) & LOOKUP_F_INV) !== 0,
      };
    case 'immediate': {
      const verdict = a.nested(2)?.nested(DATA_VERDICT);
      if (!verdict) return { name: 'immediate', dreg: r(1), data: data(2) };
      return {
        name: 'verdict',
        code: (verdict.u32(VERDICT_CODE) ?? 0) | 0,
        chain: verdict.text(VERDICT_CHAIN) ?? null,
      };
    }
    case 'fib':
      return { name: 'fib', result: u(2), flags: u(3), dreg: r(1) };
    case 'numgen':
      if (u(3) !== NUMGEN_RANDOM || u(4) !== 0) break;
      return { name: 'numgen', modulus: u(2), dreg: r(1) };
    case 'dynset':
      return {
        name: 'dynset',
        set: a.text(1) ?? '',
        op: u(3),
        sregKey: r(4),
        sregData: r(5),
        timeoutMs: Number(a.u64(6) ?? 0n),
      };
    case 'nat':
      if (u(1) !== 1 || (a.has(4) && u(4) !== u(3)) || (a.has(6) && u(6) !== u(5))) break;
      return { name: 'dnat', family: u(2), regAddr: r(3), regProto: r(5) };
    case 'masq':
      if (a.has(2) || a.has(3)) break;
      return { name: 'masquerade', flags: u(1) };
    case 'reject':
      return { name: 'reject', type: u(1), code: a.bytes(2)?.charCodeAt(0) ?? 0 };
    case 'match':
    case 'target':
      return { name: kernelName, extension: a.text(1) ?? '', revision: u(2), info: a.bytes(3) ?? '' };
    case 'counter':
      return { name: 'counter' };
  }
  return { name: 'other', kernelName, bytes };
}

/** Decodes the list in NFTA_RULE_EXPRESSIONS. */
export function readExpressions(buffer: Buffer, start: number, end: number): Expression[] {
  const out: Expression[] = [];
  eachAttribute(buffer, start, end, (_type, from, to) => {
    const element = new Attributes(buffer, from, to);
    const at = element.range(EXPR_DATA);
    const data = at ? new Attributes(buffer, at[0], at[1]) : new Attributes(buffer, 0, 0);
    out.push(decode(element.text(EXPR_NAME) ?? '', data, at ? buffer.toString('latin1', at[0], at[1]) : ''));
  });
  return out;
}
