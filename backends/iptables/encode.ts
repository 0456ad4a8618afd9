// A rule as nf_tables expressions, in the form that every iptables-nft lists as the same text: ports and marks as
// matches of x_tables, which versions before 1.8.8 need, and addresses first, which is cheapest for packets passing by.
import { type Family, ipBytes, maskBytes, parseCidr } from '../../native/ip.ts';
import { CMP, META, PAYLOAD, VERDICT } from '../../native/nftables/constants.ts';
import type { Expression } from '../../native/nftables/expression.ts';
import type { Layout } from '../../native/xtables/layout.ts';
import * as matches from '../../native/xtables/matches.ts';
import * as targets from '../../native/xtables/targets.ts';
import type { AddressMatch, InterfaceMatch, Match, Protocol, Rule, Target } from './rule.ts';

export const PROTOCOL_NUMBER: Readonly<Record<Protocol, number>> = { tcp: 6, udp: 17, sctp: 132 };
export const PORT_MATCH: Readonly<Record<Protocol, Layout<number | null>>> = {
  tcp: matches.tcp,
  udp: matches.udp,
  sctp: matches.sctp,
};
/** Where the addresses lie in the network header. */
export const ADDRESS_OFFSET = {
  IPv4: { source: 12, destination: 16, length: 4 },
  IPv6: { source: 8, destination: 24, length: 16 },
} as const;
/** Longest name of an interface: IFNAMSIZ without the NUL. */
export const MAX_INTERFACE_NAME = 15;
/** NFT_REG_1, written as the tool does: the 128-bit register. */
const REG = 1;

const VERDICTS: Readonly<Record<'DROP' | 'ACCEPT' | 'RETURN', Expression>> = {
  DROP: { name: 'verdict', code: VERDICT.drop, chain: null },
  ACCEPT: { name: 'verdict', code: VERDICT.accept, chain: null },
  RETURN: { name: 'verdict', code: VERDICT.return, chain: null },
};
const COUNTER: Expression = { name: 'counter' };

/**
 * The expressions of a rule, for Batch.addRule.
 * @throws RangeError when the rule does not fit the family or its field, or can match nothing (`! 0.0.0.0/0`).
 */
export function encodeRule(family: Family, rule: Rule): Expression[] {
  const out: Expression[] = [];
  const at = ADDRESS_OFFSET[family];
  if (rule.source) addressMatch(out, family, at.source, rule.source);
  if (rule.destination) addressMatch(out, family, at.destination, rule.destination);
  if (rule.input) interfaceMatch(out, rule.input);
  if (rule.protocol) {
    out.push({ name: 'meta', key: META.l4proto, dreg: REG });
    out.push({ name: 'cmp', op: CMP.eq, sreg: REG, data: String.fromCharCode(PROTOCOL_NUMBER[rule.protocol]) });
  }
  for (const match of rule.matches) out.push(matchOf(match, rule.protocol));
  out.push(COUNTER);
  if (rule.target) out.push(targetOf(family, rule.target));
  return out;
}

/** What Batch.addRule needs as `compatProtocol`. */
export function compatProtocol(rule: Rule): number | undefined {
  return rule.protocol && PROTOCOL_NUMBER[rule.protocol];
}

function addressMatch(out: Expression[], family: Family, offset: number, { cidr, not }: AddressMatch): void {
  const { length } = ADDRESS_OFFSET[family];
  const slash = cidr.indexOf('/');
  const prefix = Number(cidr.slice(slash + 1));
  // Most addresses are whole ones; parseCidr would mask them.
  const bytes = prefix === length * 8 ? ipBytes(cidr.slice(0, slash)) : ipBytes(parseCidr(cidr)?.base ?? '');
  if (bytes?.length !== length) throw new RangeError(`${cidr} is no CIDR of ${family}`);
  if (prefix === 0) {
    if (not) throw new RangeError(`! ${cidr} matches nothing`);
    return;
  }
  const whole = (prefix & 7) === 0;
  const len = whole ? prefix >> 3 : length;
  out.push({ name: 'payload', base: PAYLOAD.network, offset, len, dreg: REG });
  if (!whole) {
    out.push({ name: 'bitwise', sreg: REG, dreg: REG, len, mask: maskBytes(family, prefix), xor: '\0'.repeat(len) });
  }
  out.push({ name: 'cmp', op: not ? CMP.ne : CMP.eq, sreg: REG, data: bytes.slice(0, len) });
}

function interfaceMatch(out: Expression[], { name, prefix, not }: InterfaceMatch): void {
  const bytes = Buffer.from(name, 'utf8').toString('latin1');
  if (bytes.length > MAX_INTERFACE_NAME) throw new RangeError(`interface ${name}: more than 15 bytes`);
  if (bytes === '') {
    if (not || !prefix) throw new RangeError('an interface without a name');
    return;
  }
  out.push({ name: 'meta', key: META.iifname, dreg: REG });
  out.push({ name: 'cmp', op: not ? CMP.ne : CMP.eq, sreg: REG, data: prefix ? bytes : `${bytes}\0` });
}

const extension = <T>(name: 'match' | 'target', layout: Layout<T>, value: T): Expression => ({
  name,
  extension: layout.name,
  revision: layout.revision,
  info: layout.write(value),
});

function matchOf(m: Match, protocol: Protocol | undefined): Expression {
  switch (m.match) {
    case 'comment':
      return extension('match', matches.comment, m.text);
    case 'port':
      if (!protocol) throw new RangeError(`port ${m.port} without a protocol`);
      return extension('match', PORT_MATCH[protocol], m.port);
    case 'addrtype':
      return extension('match', matches.addrtype, m.side);
    case 'conntrack':
      return extension('match', matches.conntrack, m);
    case 'mark':
      return extension('match', matches.mark, m);
    case 'nfacct':
      return extension('match', matches.nfacct, m.name);
    case 'recent':
      return extension('match', matches.recent, m);
    case 'statistic':
      return extension('match', matches.statistic, m.threshold);
  }
}

function targetOf(family: Family, t: Target): Expression {
  switch (t.target) {
    case 'jump':
      return { name: 'verdict', code: VERDICT.jump, chain: t.chain };
    case 'DROP':
    case 'ACCEPT':
    case 'RETURN':
      return VERDICTS[t.target];
    case 'MARK':
      return extension('target', targets.setMark, t);
    case 'MASQUERADE':
      return extension('target', targets.masquerade[family], t.randomFully);
    case 'REJECT':
      return extension('target', targets.reject[family], true);
    case 'DNAT':
      return extension('target', targets.dnat[family], t);
  }
}
