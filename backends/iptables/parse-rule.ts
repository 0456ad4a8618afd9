// One rule of iptables-save, from text to the model. Options are taken one after the other; the first that the model
// cannot hold makes the rule opaque.
import { isIP } from 'node:net';
import { canonicalIP, parseCidr } from '../../native/ip.ts';
import { thresholdOf } from './probability.ts';
import type { AddressMatch, ConntrackState, InterfaceMatch, Match, Protocol, Rule, Target } from './rule.ts';
import { REJECT_WITH } from './rule-text.ts';

/**
 * `text` is what follows `-A CHAIN`; `isChain` tells the names of chains from those of targets.
 * @returns null when the model cannot hold it.
 */
export function parseRule(text: string, isChain: (name: string) => boolean): Rule | null {
  const words = wordsOf(text);
  if (words === null) return null;
  try {
    return new RuleParser(words, isChain).rule();
  } catch (error) {
    if (error instanceof Opaque) return null;
    throw error;
  }
}

class Opaque extends Error {}

const STATES: readonly string[] = ['INVALID', 'NEW', 'RELATED', 'ESTABLISHED', 'DNAT'] satisfies ConntrackState[];
const PROTOCOLS: readonly string[] = ['tcp', 'udp', 'sctp'] satisfies Protocol[];
const SIMPLE: readonly string[] = ['DROP', 'ACCEPT', 'RETURN'];
const MAX_UINT32 = 0xffffffff;

class RuleParser {
  readonly #words: readonly string[];
  readonly #isChain: (name: string) => boolean;
  #at = 0;

  constructor(words: readonly string[], isChain: (name: string) => boolean) {
    this.#words = words;
    this.#isChain = isChain;
  }

  rule(): Rule {
    const out: { -readonly [K in keyof Rule]: Rule[K] } = { matches: [], target: null };
    const matches: Match[] = [];
    let portsOf: string | null = null;
    while (this.#at < this.#words.length) {
      const not = this.#takes('!');
      const option = this.#next();
      if (option === '-s') out.source = this.#address(not);
      else if (option === '-d') out.destination = this.#address(not);
      else if (option === '-i') out.input = this.#interface(not);
      else if (not) throw new Opaque();
      else if (option === '-p') out.protocol = this.#oneOf(PROTOCOLS) as Protocol;
      else if (option === '-m') {
        const name = this.#next();
        if (PROTOCOLS.includes(name)) portsOf = name;
        matches.push(this.#match(name));
      } else if (option === '-j') {
        out.target = this.#target();
        if (this.#at < this.#words.length) throw new Opaque();
      } else throw new Opaque();
    }
    if (portsOf !== null && portsOf !== out.protocol) throw new Opaque();
    return { ...out, matches };
  }

  #match(name: string): Match {
    switch (name) {
      case 'comment':
        this.#option('--comment');
        return { match: 'comment', text: this.#next() };
      case 'tcp':
      case 'udp':
      case 'sctp':
        return { match: 'port', port: this.#takes('--dport') ? this.#number(65535) : null };
      case 'addrtype': {
        const side = this.#oneOf(['--src-type', '--dst-type']) === '--src-type' ? 'src' : 'dst';
        this.#option('LOCAL');
        return { match: 'addrtype', side };
      }
      case 'conntrack': {
        const not = this.#takes('!');
        this.#option('--ctstate');
        const states = this.#next().split(',');
        if (!states.every((state) => STATES.includes(state))) throw new Opaque();
        return { match: 'conntrack', states: states as ConntrackState[], not };
      }
      case 'mark': {
        const not = this.#takes('!');
        this.#option('--mark');
        return { match: 'mark', ...this.#masked(), not };
      }
      case 'nfacct':
        this.#option('--nfacct-name');
        return { match: 'nfacct', name: this.#next() };
      case 'recent':
        return this.#recent();
      case 'statistic':
        this.#option('--mode');
        this.#option('random');
        this.#option('--probability');
        return { match: 'statistic', threshold: this.#probability() };
      default:
        throw new Opaque();
    }
  }

  #recent(): Match {
    let seconds = 0;
    const op = this.#oneOf(['--set', '--rcheck']) === '--set' ? 'set' : 'check';
    if (op === 'check') {
      this.#option('--seconds');
      seconds = this.#number(MAX_UINT32);
      this.#option('--reap');
    }
    this.#option('--name');
    const list = this.#next();
    if (this.#takes('--mask') && !/^(255(\.255){3}|ffff(:ffff){7})$/.test(this.#next())) throw new Opaque();
    this.#takes('--rsource');
    return { match: 'recent', list, op, seconds };
  }

  #target(): Target {
    const name = this.#next();
    if (this.#isChain(name)) return { target: 'jump', chain: name };
    if (SIMPLE.includes(name)) return { target: name as 'DROP' | 'ACCEPT' | 'RETURN' };
    switch (name) {
      case 'MARK':
        this.#option('--set-xmark');
        return { target: 'MARK', ...this.#masked() };
      case 'MASQUERADE':
        return { target: 'MASQUERADE', randomFully: this.#takes('--random-fully') };
      case 'REJECT':
        this.#option('--reject-with');
        this.#oneOf(Object.values(REJECT_WITH));
        return { target: 'REJECT' };
      case 'DNAT': {
        this.#option('--to-destination');
        const [, v6, v4, port] = /^(?:\[(.+)\]|([\d.]+)):(\d{1,5})$/.exec(this.#next()) ?? [];
        const ip = v6 ?? v4;
        if (ip === undefined || isIP(ip) === 0 || Number(port) > 65535) throw new Opaque();
        return { target: 'DNAT', ip: canonicalIP(ip)!, port: Number(port) };
      }
      default:
        throw new Opaque();
    }
  }

  #address(not: boolean): AddressMatch {
    const text = this.#next();
    const cidr = parseCidr(text);
    if (cidr === null) throw new Opaque();
    return { cidr: cidr.text, not };
  }

  #interface(not: boolean): InterfaceMatch {
    const text = this.#next();
    const prefix = text.endsWith('+');
    return { name: prefix ? text.slice(0, -1) : text, prefix, not };
  }

  /** `value/mask`, or a value alone for all bits. */
  #masked(): { value: number; mask: number } {
    const [, value, mask] = /^(0x[\da-f]{1,8})(?:\/(0x[\da-f]{1,8}))?$/.exec(this.#next()) ?? [];
    if (value === undefined) throw new Opaque();
    return { value: Number(value), mask: mask === undefined ? MAX_UINT32 : Number(mask) };
  }

  #probability(): number {
    const text = this.#next();
    if (!/^[01]\.\d+$/.test(text)) throw new Opaque();
    return thresholdOf(text);
  }

  #number(max: number): number {
    const text = this.#next();
    if (!/^\d{1,10}$/.test(text) || Number(text) > max) throw new Opaque();
    return Number(text);
  }

  #oneOf(allowed: readonly string[]): string {
    const word = this.#next();
    if (!allowed.includes(word)) throw new Opaque();
    return word;
  }

  #option(word: string): void {
    if (this.#next() !== word) throw new Opaque();
  }

  #takes(word: string): boolean {
    if (this.#words[this.#at] !== word) return false;
    this.#at++;
    return true;
  }

  #next(): string {
    const word = this.#words[this.#at++];
    if (word === undefined) throw new Opaque();
    return word;
  }
}

const WORD = /"((?:[^"\\]|\\.)*)"|[^\s"]+/g;

/** Splits at blanks; quotes hold words with blanks together. null when it cannot be split. */
function wordsOf(text: string): string[] | null {
  if (!text.includes('"')) return text.split(' ').filter((word) => word !== '');
  const out: string[] = [];
  const left = text.replace(WORD, (word: string, inner: string | undefined) => {
    out.push(inner === undefined ? word : inner.replace(/\\(.)/g, '$1'));
    return '';
  });
  return left.trim() === '' ? out : null;
}
