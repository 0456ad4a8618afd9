// Evaluates nf_tables rules as the kernel does: registers of 32 bits that a rule must write before it reads them,
// lookups in the table's elements, jumps and gotos. Anything it does not know throws.

import type { DesiredTable } from '../../backends/nft-table/table-plan.ts';
import type { Element, SetDeclaration } from '../../native/nftables/batch.ts';
import {
  CMP,
  CT,
  DYNSET,
  FIB_FLAG,
  FIB_RESULT_ADDRTYPE,
  META,
  NAT_RANGE,
  PAYLOAD,
  REG_VERDICT,
  REJECT_ICMP_UNREACH,
  RTN_LOCAL,
  u32FromHost,
  u32Host,
  VERDICT,
} from '../../native/nftables/constants.ts';
import type { Expression } from '../../native/nftables/expression.ts';

/** A packet on its way; addresses and ports are register bytes without padding. */
export interface PacketState {
  saddr: string;
  daddr: string;
  protocol: number;
  /** First 8 bytes behind the network header. */
  transport: string;
  /** '' for packets of the node itself. */
  iifname: string;
  mark: number;
  priority: number;
  ctStatus: number;
  masqueraded: boolean;
  /** Where a dnat sent it, address and port. */
  translated: string | null;
}

export interface Remembered {
  readonly data: string;
  readonly expiresMs: number;
}

/** What the walk of one packet depends on besides the packet. */
export interface Surroundings {
  readonly isLocal: (address: string) => boolean;
  /** The random number to take, below `modulus`. */
  readonly choose: (modulus: number) => number;
  readonly nowMs: number;
  /** The client memory of session affinity, written to. */
  readonly memory: Map<string, Remembered>;
}

type Verdict =
  | { readonly kind: 'accept' | 'drop' | 'reject' | 'return' }
  | { readonly kind: 'jump' | 'goto'; chain: string };
type Step = Verdict | 'next' | 'break';

const REGISTERS = 16;
const MAX_JUMPS = 16;
const IPS_DST_NAT = 0x20;
const RTN_UNICAST = 1;
const CT_STATE_NEW = 8;
const UINT32 = 4;

const pad = (bytes: string): string => bytes.padEnd(Math.ceil(bytes.length / UINT32) * UINT32, '\0');

class Registers {
  readonly #words: (string | null)[] = new Array(REGISTERS).fill(null);

  #index(register: number, length: number): number {
    const index = register - 8;
    if (index < 0 || index + Math.ceil(length / UINT32) > REGISTERS) throw new Error(`no register ${register}`);
    return index;
  }

  read(register: number, length: number): string {
    const index = this.#index(register, length);
    let out = '';
    for (let i = 0; out.length < length; i++) {
      const word = this.#words[index + i]!;
      if (word === null) throw new Error(`register ${register + i} is read before it is written (ENODATA)`);
      out += word;
    }
    return out.slice(0, length);
  }

  write(register: number, bytes: string): void {
    const index = this.#index(register, bytes.length);
    const padded = pad(bytes);
    for (let at = 0; at < padded.length; at += UINT32) this.#words[index + at / UINT32] = padded.slice(at, at + UINT32);
  }
}

export class RulesetMachine<S extends string> {
  readonly #table: DesiredTable<S>;
  readonly #ranges = new Map<S, Element[]>();

  constructor(table: DesiredTable<S>) {
    this.#table = table;
    for (const [set, elements] of table.elements) {
      const ranges = [...elements.values()].filter((element) => element.keyEnd !== undefined);
      if (ranges.length > 0) this.#ranges.set(set, ranges);
    }
  }

  has(chain: string): boolean {
    return this.#table.chains.has(chain);
  }

  /** Sends a packet through a base chain of policy accept. */
  run(baseChain: string, packet: PacketState, around: Surroundings): 'accept' | 'drop' | 'reject' {
    const callers: { rules: readonly (readonly Expression[])[]; at: number }[] = [];
    let rules = this.#rules(baseChain);
    let at = 0;
    for (;;) {
      const rule = rules[at++];
      const verdict: Verdict | null = rule ? this.#rule(rule, packet, around) : { kind: 'return' };
      if (verdict === null) continue;
      if (verdict.kind === 'return') {
        const caller = callers.pop();
        if (caller === undefined) return 'accept';
        ({ rules, at } = caller);
        continue;
      }
      if (verdict.kind !== 'jump' && verdict.kind !== 'goto') return verdict.kind;
      if (verdict.kind === 'jump') {
        if (callers.push({ rules, at }) > MAX_JUMPS) throw new Error('too many jumps (EMLINK)');
      }
      rules = this.#rules(verdict.chain);
      at = 0;
    }
  }

  #rules(chain: string): readonly (readonly Expression[])[] {
    const rules = this.#table.chains.get(chain);
    if (rules === undefined) throw new Error(`no chain ${chain}`);
    return rules.map((rule) => rule.expressions);
  }

  #rule(rule: readonly Expression[], packet: PacketState, around: Surroundings): Verdict | null {
    const registers = new Registers();
    for (const expression of rule) {
      const step = this.#step(expression, registers, packet, around);
      if (step === 'break') return null;
      if (step !== 'next') return step;
    }
    return null;
  }

  #step(e: Expression, r: Registers, packet: PacketState, around: Surroundings): Step {
    switch (e.name) {
      case 'payload': {
        const header = e.base === PAYLOAD.network ? networkHeader(packet) : packet.transport;
        if (e.base !== PAYLOAD.network && e.base !== PAYLOAD.transport) throw new Error(`payload base ${e.base}`);
        if (e.offset + e.len > header.length) return 'break';
        r.write(e.dreg, header.slice(e.offset, e.offset + e.len));
        return 'next';
      }
      case 'meta':
        r.write(e.dreg, metaValue(e.key, packet));
        return 'next';
      case 'metaSet': {
        const value = u32FromHost(r.read(e.sreg, 4));
        if (e.key === META.priority) packet.priority = value;
        else if (e.key === META.mark) packet.mark = value;
        else throw new Error(`meta key ${e.key} set`);
        return 'next';
      }
      case 'ct':
        if (e.key !== CT.state && e.key !== CT.status) throw new Error(`ct key ${e.key}`);
        r.write(e.dreg, u32Host(e.key === CT.state ? CT_STATE_NEW : packet.ctStatus));
        return 'next';
      case 'cmp': {
        if (e.op !== CMP.eq && e.op !== CMP.ne) throw new Error(`cmp operator ${e.op}`);
        return (r.read(e.sreg, e.data.length) === e.data) === (e.op === CMP.eq) ? 'next' : 'break';
      }
      case 'bitwise': {
        if (e.mask.length !== e.len || e.xor.length !== e.len) throw new Error('bitwise: wrong length of mask or xor');
        const value = r.read(e.sreg, e.len);
        const out = Array.from(value, (c, i) => (c.charCodeAt(0) & e.mask.charCodeAt(i)) ^ e.xor.charCodeAt(i));
        r.write(e.dreg, String.fromCharCode(...out));
        return 'next';
      }
      case 'lookup':
        return this.#lookup(e, r, around);
      case 'immediate':
        r.write(e.dreg, e.data);
        return 'next';
      case 'verdict':
        return verdictOf(e.code, e.chain);
      case 'fib': {
        if (e.result !== FIB_RESULT_ADDRTYPE) throw new Error(`fib result ${e.result}`);
        if (e.flags !== FIB_FLAG.saddr && e.flags !== FIB_FLAG.daddr) throw new Error(`fib flags ${e.flags}`);
        const local = around.isLocal(e.flags === FIB_FLAG.saddr ? packet.saddr : packet.daddr);
        r.write(e.dreg, u32Host(local ? RTN_LOCAL : RTN_UNICAST));
        return 'next';
      }
      case 'numgen': {
        const chosen = around.choose(e.modulus);
        r.write(e.dreg, u32Host(chosen));
        return 'next';
      }
      case 'dynset':
        return this.#dynset(e, r, around);
      case 'dnat': {
        const to = r.read(e.regAddr, packet.daddr.length) + r.read(e.regProto, 2);
        if (to !== packet.daddr + packet.transport.slice(2, 4)) packet.ctStatus |= IPS_DST_NAT;
        packet.translated = to;
        packet.daddr = to.slice(0, -2);
        packet.transport = packet.transport.slice(0, 2) + to.slice(-2) + packet.transport.slice(4);
        return { kind: 'accept' };
      }
      case 'masquerade':
        if (e.flags !== NAT_RANGE.protoRandomFully) throw new Error(`masquerade flags ${e.flags}`);
        packet.masqueraded = true;
        return { kind: 'accept' };
      case 'reject':
        if (e.type !== REJECT_ICMP_UNREACH) throw new Error(`reject type ${e.type}`);
        return { kind: 'reject' };
      case 'match':
      case 'target':
      case 'counter':
        throw new Error(`expression ${e.name}`);
      case 'other':
        throw new Error(`expression ${e.kernelName}`);
    }
  }

  #lookup(e: Expression & { name: 'lookup' }, r: Registers, around: Surroundings): Step {
    const declaration = this.#declaration(e.set);
    const key = r.read(e.sreg, declaration.keyLength);
    const data = this.#find(e.set as S, key, around);
    if (e.dreg === null) return (data !== null) !== e.inverted ? 'next' : 'break';
    if (data === null) return 'break';
    if (e.dreg === REG_VERDICT) return { kind: 'goto', chain: data };
    if (data.length !== declaration.dataLength) throw new Error(`set ${e.set}: data of ${data.length} bytes`);
    r.write(e.dreg, data);
    return 'next';
  }

  #declaration(set: string): SetDeclaration {
    const declaration: SetDeclaration | undefined = this.#table.layout.sets[this.#table.family][set as S];
    if (declaration === undefined) throw new Error(`no set ${set}`);
    return declaration;
  }

  /** The data of an element, '' for a plain set; null when there is none. */
  #find(set: S, key: string, around: Surroundings): string | null {
    if (this.#table.layout.shapes[set].memory) {
      const found = around.memory.get(key);
      return found !== undefined && found.expiresMs > around.nowMs ? found.data : null;
    }
    const ranges = this.#ranges.get(set);
    if (ranges)
      return ranges.some((range) => inRange(this.#fields(set, key), range, this.#fields.bind(this, set))) ? '' : null;
    const element = this.#table.elements.get(set)?.get(key);
    return element === undefined ? null : (element.data ?? '');
  }

  /** The fields of a concatenation, padding left out. */
  #fields(set: S, key: string): string[] {
    let at = 0;
    return (this.#declaration(set).concat ?? [key.length]).map((length) => {
      const field = key.slice(at, at + length);
      at += Math.ceil(length / UINT32) * UINT32;
      return field;
    });
  }

  #dynset(e: Expression & { name: 'dynset' }, r: Registers, { memory, nowMs }: Surroundings): Step {
    const declaration = this.#declaration(e.set);
    if (!this.#table.layout.shapes[e.set as S].memory) throw new Error(`set ${e.set} cannot be written by packets`);
    const key = r.read(e.sregKey, declaration.keyLength);
    const data = r.read(e.sregData, declaration.dataLength!);
    for (const [other, { expiresMs }] of memory) if (expiresMs <= nowMs) memory.delete(other);
    if (e.op === DYNSET.delete) {
      memory.delete(key);
    } else if (e.op === DYNSET.update) {
      // What is there keeps its data; only its time starts anew.
      const kept = memory.get(key)?.data ?? data;
      if (!memory.has(key) && memory.size >= declaration.size!) return 'break';
      memory.set(key, { data: kept, expiresMs: nowMs + (e.timeoutMs || declaration.timeoutMs!) });
    } else {
      throw new Error(`dynset operation ${e.op}`);
    }
    return 'next';
  }
}

function inRange(fields: readonly string[], range: Element, split: (key: string) => string[]): boolean {
  const low = split(range.key);
  const high = split(range.keyEnd!);
  return fields.every((field, i) => field >= low[i]! && field <= high[i]!);
}

function verdictOf(code: number, chain: string | null): Step {
  if (code === VERDICT.drop) return { kind: 'drop' };
  if (code === VERDICT.return) return { kind: 'return' };
  if (chain !== null && code === VERDICT.jump) return { kind: 'jump', chain };
  if (chain !== null && code === VERDICT.goto) return { kind: 'goto', chain };
  throw new Error(`verdict ${code}`);
}

function metaValue(key: number, packet: PacketState): string {
  switch (key) {
    case META.priority:
      return u32Host(packet.priority);
    case META.mark:
      return u32Host(packet.mark);
    case META.iifname:
      return packet.iifname.padEnd(16, '\0');
    case META.l4proto:
      return String.fromCharCode(packet.protocol);
    default:
      throw new Error(`meta key ${key}`);
  }
}

function networkHeader({ saddr, daddr }: PacketState): string {
  return '\0'.repeat(saddr.length === 4 ? 12 : 8) + saddr + daddr;
}
