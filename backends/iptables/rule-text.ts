// A rule as text: what iptables-save prints after `-A CHAIN `, or what iptables-restore is best given.
import type { Family } from '../../native/ip.ts';
import { thresholdText } from './probability.ts';
import type { Match, Rule, Target } from './rule.ts';

/**
 * `save`: every detail, as the tools list it. `restore`: without what the tools fill in themselves; they compare the
 * mask of `recent` in full and would not find the rule again if it were given (see iptables -C).
 */
export type TextForm = 'save' | 'restore';

const ALL_ONES: Readonly<Record<Family, string>> = {
  IPv4: '255.255.255.255',
  IPv6: 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
};
/** The tools' own words for a refusal without further ado. */
export const REJECT_WITH: Readonly<Record<Family, string>> = {
  IPv4: 'icmp-port-unreachable',
  IPv6: 'icmp6-port-unreachable',
};

/** Options of a rule separated by blanks; '' for one that matches everything and does nothing. */
export function ruleText(rule: Rule, family: Family, form: TextForm): string {
  let out = '';
  const { source, destination, input, protocol, target } = rule;
  if (source !== undefined) out += `${not(source)} -s ${source.cidr}`;
  if (destination !== undefined) out += `${not(destination)} -d ${destination.cidr}`;
  if (input !== undefined) out += `${not(input)} -i ${input.name}${input.prefix ? '+' : ''}`;
  if (protocol !== undefined) out += ` -p ${protocol}`;
  for (const match of rule.matches) out += ` -m ${matchText(match, rule, family, form)}`;
  if (target !== null) out += ` -j ${targetText(target, family)}`;
  return out.slice(1);
}

const not = (condition: { readonly not: boolean }): string => (condition.not ? ' !' : '');
const hex = (value: number): string => `0x${value.toString(16)}`;

function matchText(match: Match, rule: Rule, family: Family, form: TextForm): string {
  switch (match.match) {
    case 'comment':
      return `comment --comment ${quoted(match.text)}`;
    case 'port':
      return match.port === null ? `${rule.protocol}` : `${rule.protocol} --dport ${match.port}`;
    case 'addrtype':
      return `addrtype --${match.side}-type LOCAL`;
    case 'conntrack':
      return `conntrack${not(match)} --ctstate ${match.states.join(',')}`;
    case 'mark':
      return `mark${not(match)} --mark ${hex(match.value)}${match.mask === 0xffffffff ? '' : `/${hex(match.mask)}`}`;
    case 'nfacct':
      return `nfacct --nfacct-name ${form === 'save' ? ' ' : ''}${match.name}`;
    case 'recent': {
      const op = match.op === 'set' ? '--set' : `--rcheck --seconds ${match.seconds} --reap`;
      const mask = form === 'save' ? ` --mask ${ALL_ONES[family]} --rsource` : '';
      return `recent ${op} --name ${match.list}${mask}`;
    }
    case 'statistic':
      return `statistic --mode random --probability ${thresholdText(match.threshold, form === 'save' ? 11 : 10)}`;
  }
}

function targetText(target: Target, family: Family): string {
  switch (target.target) {
    case 'jump':
      return target.chain;
    case 'MARK':
      return `MARK --set-xmark ${hex(target.value)}/${hex(target.mask)}`;
    case 'MASQUERADE':
      return target.randomFully ? 'MASQUERADE --random-fully' : 'MASQUERADE';
    case 'REJECT':
      return `REJECT --reject-with ${REJECT_WITH[family]}`;
    case 'DNAT':
      return `DNAT --to-destination ${family === 'IPv6' ? `[${target.ip}]` : target.ip}:${target.port}`;
    default:
      return target.target;
  }
}

/** As the tools write strings: bare words as they are, others in quotes. */
function quoted(text: string): string {
  return /^[\w-]+$/.test(text) ? text : `"${text.replace(/["'\\]/g, '\\$&')}"`;
}
