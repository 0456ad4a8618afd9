// Whether one iptables rule applies to a packet, and what its target does to it.
import type { AddressMatch, InterfaceMatch, Match, Rule, Table, Target } from '../../backends/iptables/rule.ts';
import { cidrContains, parseCidr } from '../../native/ip.ts';

/** The first packet of a connection on its way. */
export interface RulePacket {
  source: string;
  destination: string;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP' | 'ICMP';
  port: number | null;
  /** null for packets of the node itself. */
  input: string | null;
  mark: number;
  /** Where it was sent, as `ip:port`. */
  translated: string | null;
  masqueraded: boolean;
}

/** When a list of `recent` saw each source last. */
export type Seen = Map<string, number>;
export type Lists = ReadonlyMap<string, Seen>;

/** What the walk of one packet depends on besides the packet. */
export interface Around {
  readonly lists: Map<string, Seen>;
  readonly nowMs: number;
  readonly isLocal: (ip: string) => boolean;
  /** Decides what happens with a probability. */
  readonly happens: (chance: number) => boolean;
}

/** Matches are asked one after the other until one fails; they may write to lists. */
export function ruleApplies(rule: Rule, packet: RulePacket, around: Around): boolean {
  if (!addressFits(rule.source, packet.source) || !addressFits(rule.destination, packet.destination)) return false;
  if (!interfaceFits(rule.input, packet.input)) return false;
  if (rule.protocol !== undefined && rule.protocol.toUpperCase() !== packet.protocol) return false;
  return rule.matches.every((match) => matchFits(match, rule, packet, around));
}

function addressFits(match: AddressMatch | undefined, ip: string): boolean {
  if (match === undefined) return true;
  const cidr = parseCidr(match.cidr);
  if (cidr === null || cidr.text !== match.cidr) throw new Error(`${match.cidr} is no canonical CIDR`);
  return cidrContains(cidr, ip) !== match.not;
}

function interfaceFits(match: InterfaceMatch | undefined, input: string | null): boolean {
  if (match === undefined) return true;
  // A packet without input interface has the empty name.
  const name = input ?? '';
  return (match.prefix ? name.startsWith(match.name) : name === match.name) !== match.not;
}

function matchFits(match: Match, rule: Rule, packet: RulePacket, around: Around): boolean {
  switch (match.match) {
    case 'comment':
    case 'nfacct':
      return true;
    case 'port':
      if (rule.protocol === undefined) throw new Error('a port without a protocol');
      return match.port === null || match.port === packet.port;
    case 'addrtype':
      return around.isLocal(match.side === 'src' ? packet.source : packet.destination);
    case 'conntrack': {
      const has = match.states.includes('NEW') || (match.states.includes('DNAT') && packet.translated !== null);
      return has !== match.not;
    }
    case 'mark':
      return ((packet.mark & match.mask) >>> 0 === match.value) !== match.not;
    case 'statistic':
      return around.happens(match.threshold / 2 ** 31);
    case 'recent': {
      const seen = around.lists.get(match.list) ?? new Map<string, number>();
      if (match.op === 'check') {
        const at = seen.get(packet.source);
        return at !== undefined && around.nowMs - at <= match.seconds * 1000;
      }
      seen.set(packet.source, around.nowMs);
      around.lists.set(match.list, seen);
      return true;
    }
  }
}

/** Where a rule stands: some targets are not allowed everywhere. */
export interface Place {
  readonly table: Table;
  readonly hook: string;
}

/** What a target other than a jump does; `next` goes on with the next rule. */
export function targetOf(
  target: Target,
  packet: RulePacket,
  place: Place,
): 'accept' | 'drop' | 'reject' | 'return' | 'next' {
  const only = (table: Table, ...hooks: string[]): void => {
    if (place.table === table && (hooks.length === 0 || hooks.includes(place.hook))) return;
    throw new Error(`${target.target} is not allowed in table ${place.table}, ${place.hook}`);
  };
  switch (target.target) {
    case 'ACCEPT':
      return 'accept';
    case 'DROP':
      // The tools refuse it in table nat.
      only('filter');
      return 'drop';
    case 'REJECT':
      only('filter');
      return 'reject';
    case 'RETURN':
      return 'return';
    case 'MARK':
      packet.mark = ((packet.mark & ~target.mask) ^ target.value) >>> 0;
      return 'next';
    case 'MASQUERADE':
      only('nat', 'POSTROUTING');
      packet.masqueraded = true;
      return 'accept';
    case 'DNAT':
      only('nat', 'PREROUTING', 'OUTPUT');
      packet.destination = target.ip;
      packet.port = target.port;
      packet.translated = target.ip.includes(':') ? `[${target.ip}]:${target.port}` : `${target.ip}:${target.port}`;
      return 'accept';
    case 'jump':
      throw new Error('a jump is not for targetOf');
  }
}
