// What rule the expressions in the kernel stand for, in every form that iptables-nft 1.8.7 to 1.8.13 writes: protocol
// from the packet's meta data or from the header, ports and marks native or as matches, addresses cut or masked.
import { type Family, ipText, maskBytes } from '../../native/ip.ts';
import { CMP, META, PAYLOAD, u32FromHost, VERDICT } from '../../native/nftables/constants.ts';
import type { Expression } from '../../native/nftables/expression.ts';
import * as matches from '../../native/xtables/matches.ts';
import * as targets from '../../native/xtables/targets.ts';
import { ADDRESS_OFFSET, MAX_INTERFACE_NAME, PORT_MATCH, PROTOCOL_NUMBER } from './encode.ts';
import type { AddressMatch, InterfaceMatch, Match, Protocol, Rule, Target } from './rule.ts';

/** What was loaded last, into which register, and what it was masked with since. */
type Loaded = { readonly register: number; readonly mask?: string } & (
  | { readonly from: 'payload'; readonly base: number; readonly offset: number; readonly len: number }
  | { readonly from: 'meta'; readonly key: number }
);

const IPV4_PROTOCOL_OFFSET = 9;
const DESTINATION_PORT_OFFSET = 2;
const PROTOCOLS = new Map(Object.entries(PROTOCOL_NUMBER).map(([name, number]) => [number, name as Protocol]));
const SIMPLE_VERDICTS = new Map<number, 'DROP' | 'ACCEPT' | 'RETURN'>([
  [VERDICT.drop, 'DROP'],
  [VERDICT.accept, 'ACCEPT'],
  [VERDICT.return, 'RETURN'],
]);

/** The rule, or null for one that the model cannot express (it is opaque: equal to no rule of ours). */
export function decodeRule(family: Family, expressions: readonly Expression[]): Rule | null {
  const decoder = new Decoder(family);
  for (const expression of expressions) if (!decoder.take(expression)) return null;
  return decoder.rule();
}

class Decoder {
  readonly #family: Family;
  /** Every version compares a value right after loading it, so one is enough to remember. */
  #loaded: Loaded | null = null;
  readonly #matches: Match[] = [];
  #source: AddressMatch | undefined;
  #destination: AddressMatch | undefined;
  #input: InterfaceMatch | undefined;
  #protocol: Protocol | undefined;
  /** Protocol that a match of ports was for. */
  #portsOf: Protocol | undefined;
  #target: Target | null = null;

  constructor(family: Family) {
    this.#family = family;
  }

  /** @returns false when the model has nothing for it. */
  take(e: Expression): boolean {
    if (this.#target !== null) return false;
    switch (e.name) {
      case 'payload':
        this.#loaded = { register: e.dreg, from: 'payload', base: e.base, offset: e.offset, len: e.len };
        return true;
      case 'meta':
        this.#loaded = { register: e.dreg, from: 'meta', key: e.key };
        return true;
      case 'bitwise': {
        const loaded = this.#loaded;
        if (loaded?.register !== e.sreg || loaded.mask !== undefined || hasBits(e.xor)) return false;
        this.#loaded = { ...loaded, register: e.dreg, mask: e.mask };
        return true;
      }
      case 'cmp': {
        const loaded = this.#loaded;
        if (loaded?.register !== e.sreg || (e.op !== CMP.eq && e.op !== CMP.ne)) return false;
        this.#loaded = null;
        const not = e.op === CMP.ne;
        return loaded.from === 'meta' ? this.#meta(loaded, e.data, not) : this.#payload(loaded, e.data, not);
      }
      case 'match': {
        const match = this.#match(e.extension, e.revision, e.info);
        if (match) this.#matches.push(match);
        return match !== null;
      }
      case 'counter':
        return true;
      case 'target':
        this.#target = this.#extensionTarget(e.extension, e.revision, e.info);
        return this.#target !== null;
      case 'verdict':
        this.#target = verdictTarget(e.code, e.chain);
        return this.#target !== null;
      default:
        return false;
    }
  }

  rule(): Rule | null {
    if (this.#portsOf !== undefined && this.#portsOf !== this.#protocol) return null;
    return {
      ...(this.#source && { source: this.#source }),
      ...(this.#destination && { destination: this.#destination }),
      ...(this.#input && { input: this.#input }),
      ...(this.#protocol && { protocol: this.#protocol }),
      matches: this.#matches,
      target: this.#target,
    };
  }

  #payload(loaded: Loaded & { from: 'payload' }, data: string, not: boolean): boolean {
    const { base, offset, len, mask } = loaded;
    if (base === PAYLOAD.network) {
      const at = ADDRESS_OFFSET[this.#family];
      if (offset === at.source && this.#source === undefined) {
        this.#source = this.#address(len, mask, data, not);
        return this.#source !== undefined;
      }
      if (offset === at.destination && this.#destination === undefined) {
        this.#destination = this.#address(len, mask, data, not);
        return this.#destination !== undefined;
      }
      const protocol = this.#family === 'IPv4' && offset === IPV4_PROTOCOL_OFFSET && len === 1;
      return protocol && mask === undefined && this.#setProtocol(data, not);
    }
    if (base !== PAYLOAD.transport || offset !== DESTINATION_PORT_OFFSET || len !== 2) return false;
    if (data.length !== 2 || mask !== undefined || not || !this.#protocol) return false;
    this.#portsOf = this.#protocol;
    this.#matches.push({ match: 'port', port: (data.charCodeAt(0) << 8) | data.charCodeAt(1) });
    return true;
  }

  #address(len: number, mask: string | undefined, data: string, not: boolean): AddressMatch | undefined {
    const { length } = ADDRESS_OFFSET[this.#family];
    if (len < 1 || len > length || data.length !== len) return undefined;
    const rest = '\0'.repeat(length - len);
    const prefix = mask === undefined ? len * 8 : prefixOf(this.#family, mask + rest);
    if (prefix === null || prefix === 0) return undefined;
    const ones = maskBytes(this.#family, prefix);
    for (let i = 0; i < len; i++) if (data.charCodeAt(i) & ~ones.charCodeAt(i)) return undefined;
    return { cidr: `${ipText(data + rest)}/${prefix}`, not };
  }

  #meta(loaded: Loaded & { from: 'meta' }, data: string, not: boolean): boolean {
    const { key, mask } = loaded;
    switch (key) {
      case META.l4proto:
        return mask === undefined && this.#setProtocol(data, not);
      case META.iifname:
        if (mask !== undefined || this.#input) return false;
        this.#input = interfaceOf(data, not);
        return this.#input !== undefined;
      case META.mark: {
        if (data.length !== 4 || (mask !== undefined && mask.length !== 4)) return false;
        const bits = mask === undefined ? 0xffffffff : u32FromHost(mask);
        this.#matches.push({ match: 'mark', value: u32FromHost(data), mask: bits, not });
        return true;
      }
      default:
        return false;
    }
  }

  #setProtocol(data: string, not: boolean): boolean {
    const protocol = data.length === 1 ? PROTOCOLS.get(data.charCodeAt(0)) : undefined;
    if (!protocol || not || this.#protocol !== undefined) return false;
    this.#protocol = protocol;
    return true;
  }

  #match(extension: string, revision: number, info: string): Match | null {
    switch (`${extension} ${revision}`) {
      case 'comment 0': {
        const text = matches.comment.read(info);
        return text === null ? null : { match: 'comment', text };
      }
      case 'tcp 0':
      case 'udp 0':
      case 'sctp 0':
        return this.#ports(extension as Protocol, info);
      case 'statistic 0': {
        const threshold = matches.statistic.read(info);
        return threshold === null ? null : { match: 'statistic', threshold };
      }
      case 'recent 1': {
        const recent = matches.recent.read(this.#family === 'IPv4' ? matches.fillIPv4RecentMask(info) : info);
        return recent && { match: 'recent', ...recent };
      }
      case 'addrtype 1': {
        const side = matches.addrtype.read(info);
        return side && { match: 'addrtype', side };
      }
      case 'conntrack 3': {
        const conntrack = matches.conntrack.read(info);
        return conntrack && { match: 'conntrack', ...conntrack };
      }
      case 'mark 1': {
        const mark = matches.mark.read(info);
        return mark && { match: 'mark', ...mark };
      }
      case 'nfacct 0':
      case 'nfacct 1': {
        const name = matches.nfacct.read(info);
        return name === null ? null : { match: 'nfacct', name };
      }
      default:
        return null;
    }
  }

  #ports(protocol: Protocol, info: string): Match | null {
    const layout = PORT_MATCH[protocol];
    const port = layout.read(info);
    // null is the value for any port as well as the sign of bytes that mean something else.
    if (port === null && info !== layout.write(null)) return null;
    if (this.#portsOf !== undefined && this.#portsOf !== protocol) return null;
    this.#portsOf = protocol;
    return { match: 'port', port };
  }

  #extensionTarget(extension: string, revision: number, info: string): Target | null {
    switch (`${extension} ${revision}`) {
      case 'MARK 2': {
        const mark = targets.setMark.read(info);
        return mark && { target: 'MARK', ...mark };
      }
      case 'MASQUERADE 0': {
        const randomFully = targets.masquerade[this.#family].read(info);
        return randomFully === null ? null : { target: 'MASQUERADE', randomFully };
      }
      case 'REJECT 0':
        return targets.reject[this.#family].read(info) && { target: 'REJECT' };
      case 'DNAT 2': {
        const destination = targets.dnat[this.#family].read(info);
        return destination && { target: 'DNAT', ...destination };
      }
      default:
        return null;
    }
  }
}

function hasBits(bytes: string): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes.charCodeAt(i) !== 0) return true;
  return false;
}

function verdictTarget(code: number, chain: string | null): Target | null {
  if (code === VERDICT.jump && chain !== null) return { target: 'jump', chain };
  const target = SIMPLE_VERDICTS.get(code);
  return target ? { target } : null;
}

/** Number of leading ones of a mask; null when others follow. */
function prefixOf(family: Family, mask: string): number | null {
  for (let prefix = 0; prefix <= mask.length * 8; prefix++) if (maskBytes(family, prefix) === mask) return prefix;
  return null;
}

/** A whole name comes with its NUL, a prefix without. */
function interfaceOf(data: string, not: boolean): InterfaceMatch | undefined {
  const nul = data.indexOf('\0');
  const bytes = nul < 0 ? data : data.slice(0, nul);
  if (bytes === '' || (nul >= 0 && hasBits(data.slice(nul)))) return undefined;
  const name = Buffer.from(bytes, 'latin1').toString('utf8');
  const fits = bytes.length <= MAX_INTERFACE_NAME && Buffer.from(name, 'utf8').toString('latin1') === bytes;
  return fits ? { name, prefix: nul < 0, not } : undefined;
}
