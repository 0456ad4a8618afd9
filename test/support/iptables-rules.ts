// One rule of every kind, as the model has it and as arguments of iptables.
import type { Match, Rule, Table, Target } from '../../backends/iptables/rule.ts';
import type { Family } from '../../native/ip.ts';

export interface RuleKind {
  readonly name: string;
  readonly table: Table;
  /** The families it exists in. */
  readonly families: readonly Family[];
  readonly rule: Rule;
  /** Arguments of `iptables -A CHAIN`, separated by blanks except within double quotes. */
  readonly args: string;
}

const BOTH: readonly Family[] = ['IPv4', 'IPv6'];
const jump: Target = { target: 'jump', chain: 'KUBE-TEST-TO' };
const comment = (text: string): Match => ({ match: 'comment', text });
const port = (port: number | null): Match => ({ match: 'port', port });

function kind(name: string, table: Table, args: string, rule: Partial<Rule>, families = BOTH): RuleKind {
  return { name, table, families, args, rule: { matches: [], target: null, ...rule } };
}

const address = (args: string, cidr: string, side: 'source' | 'destination', not = false): RuleKind =>
  kind(`address ${args}`, 'nat', args, { [side]: { cidr, not } }, [cidr.includes(':') ? 'IPv6' : 'IPv4']);

const state = (args: string, match: Omit<Match & { match: 'conntrack' }, 'match'>): RuleKind =>
  kind(args, 'filter', `-m conntrack ${args} -j DROP`, {
    matches: [{ match: 'conntrack', ...match }],
    target: { target: 'DROP' },
  });

const SIXTH = Math.round(2 ** 31 * 0.1666666667);

export const RULE_KINDS: readonly RuleKind[] = [
  kind('nothing but a comment', 'nat', '-m comment --comment "other traffic to shop/web:http will be dropped"', {
    matches: [comment('other traffic to shop/web:http will be dropped')],
  }),
  kind('a comment of one word', 'nat', '-m comment --comment shop/web -j RETURN', {
    matches: [comment('shop/web')],
    target: { target: 'RETURN' },
  }),
  address('-s 10.128.0.7/32', '10.128.0.7/32', 'source'),
  address('! -s 10.128.0.0/14', '10.128.0.0/14', 'source', true),
  address('-d 10.96.0.0/16', '10.96.0.0/16', 'destination'),
  address('! -d 127.0.0.0/8', '127.0.0.0/8', 'destination', true),
  address('-s 203.0.113.5/31', '203.0.113.4/31', 'source'),
  address('-d 128.0.0.0/1', '128.0.0.0/1', 'destination'),
  address('-s fd00:10:128::7/128', 'fd00:10:128::7/128', 'source'),
  address('! -s fd00:10:128::/48', 'fd00:10:128::/48', 'source', true),
  address('-d fd00:10:128::/49', 'fd00:10:128::/49', 'destination'),
  address('! -d ::1/128', '::1/128', 'destination', true),
  address('-s 2001:db8::/127', '2001:db8::/127', 'source'),
  kind(
    'source and destination',
    'filter',
    '! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP',
    {
      source: { cidr: '127.0.0.0/8', not: true },
      destination: { cidr: '127.0.0.0/8', not: false },
      matches: [
        comment('block incoming localnet connections'),
        { match: 'conntrack', states: ['RELATED', 'ESTABLISHED', 'DNAT'], not: true },
      ],
      target: { target: 'DROP' },
    },
    ['IPv4'],
  ),
  kind('an interface', 'nat', '-i cni0 -j KUBE-TEST-TO', {
    input: { name: 'cni0', prefix: false, not: false },
    target: jump,
  }),
  kind('interfaces with a prefix', 'nat', '! -i veth+ -p udp -j KUBE-TEST-TO', {
    input: { name: 'veth', prefix: true, not: true },
    protocol: 'udp',
    target: jump,
  }),
  ...(['tcp', 'udp', 'sctp'] as const).flatMap((protocol) => [
    kind(`${protocol} port`, 'nat', `-p ${protocol} -m ${protocol} --dport 30080 -j KUBE-TEST-TO`, {
      protocol,
      matches: [port(30080)],
      target: jump,
    }),
    kind(`${protocol} without port`, 'nat', `-p ${protocol} -m ${protocol} -j KUBE-TEST-TO`, {
      protocol,
      matches: [port(null)],
      target: jump,
    }),
  ]),
  kind(
    'port after a comment',
    'nat',
    '-p tcp -m comment --comment "shop/web cluster IP" -m tcp --dport 65535 -j KUBE-TEST-TO',
    {
      protocol: 'tcp',
      matches: [comment('shop/web cluster IP'), port(65535)],
      target: jump,
    },
  ),
  kind('source type', 'nat', '-m addrtype --src-type LOCAL -j KUBE-TEST-TO', {
    matches: [{ match: 'addrtype', side: 'src' }],
    target: jump,
  }),
  kind('destination type', 'nat', '-m addrtype --dst-type LOCAL -j KUBE-TEST-TO', {
    matches: [{ match: 'addrtype', side: 'dst' }],
    target: jump,
  }),
  state('--ctstate INVALID', { states: ['INVALID'], not: false }),
  state('--ctstate NEW', { states: ['NEW'], not: false }),
  state('--ctstate RELATED,ESTABLISHED', { states: ['RELATED', 'ESTABLISHED'], not: false }),
  state('! --ctstate DNAT', { states: ['DNAT'], not: true }),
  kind('mark', 'filter', '-m mark --mark 0x4000/0x4000 -j ACCEPT', {
    matches: [{ match: 'mark', value: 0x4000, mask: 0x4000, not: false }],
    target: { target: 'ACCEPT' },
  }),
  kind('no mark', 'nat', '-m mark ! --mark 0x80000000/0x80000000 -j RETURN', {
    matches: [{ match: 'mark', value: 0x80000000, mask: 0x80000000, not: true }],
    target: { target: 'RETURN' },
  }),
  kind('a whole mark', 'nat', '-m mark --mark 0x1 -j RETURN', {
    matches: [{ match: 'mark', value: 1, mask: 0xffffffff, not: false }],
    target: { target: 'RETURN' },
  }),
  kind(
    'affinity check',
    'nat',
    '-m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-SXIVWICOYRO3J4NJ -j KUBE-TEST-TO',
    {
      matches: [{ match: 'recent', list: 'KUBE-SEP-SXIVWICOYRO3J4NJ', op: 'check', seconds: 10800 }],
      target: jump,
    },
  ),
  kind('chance', 'nat', '-m statistic --mode random --probability 0.1666666667 -j KUBE-TEST-TO', {
    matches: [{ match: 'statistic', threshold: SIXTH }],
    target: jump,
  }),
  kind('small chance', 'nat', '-m statistic --mode random --probability 0.0000099999 -j KUBE-TEST-TO', {
    matches: [{ match: 'statistic', threshold: Math.round(2 ** 31 * 0.0000099999) }],
    target: jump,
  }),
  kind('set a mark', 'nat', '-j MARK --or-mark 0x4000', { target: { target: 'MARK', value: 0x4000, mask: 0x4000 } }),
  kind('take a mark away', 'nat', '-j MARK --xor-mark 0x4000', { target: { target: 'MARK', value: 0x4000, mask: 0 } }),
  kind('masquerade', 'nat', '-j MASQUERADE', { target: { target: 'MASQUERADE', randomFully: false } }),
  kind('masquerade at random', 'nat', '-j MASQUERADE --random-fully', {
    target: { target: 'MASQUERADE', randomFully: true },
  }),
  kind('reject', 'filter', '-p tcp -m tcp --dport 80 -j REJECT', {
    protocol: 'tcp',
    matches: [port(80)],
    target: { target: 'REJECT' },
  }),
  kind(
    'DNAT',
    'nat',
    '-p tcp -m tcp -j DNAT --to-destination 10.128.4.7:8080',
    { protocol: 'tcp', matches: [port(null)], target: { target: 'DNAT', ip: '10.128.4.7', port: 8080 } },
    ['IPv4'],
  ),
  kind(
    'DNAT with affinity',
    'nat',
    '-p sctp -m comment --comment shop/web -m recent --set --name KUBE-SEP-X -m sctp -j DNAT --to-destination [fd00:10:128::7]:65535',
    {
      protocol: 'sctp',
      matches: [comment('shop/web'), { match: 'recent', list: 'KUBE-SEP-X', op: 'set', seconds: 0 }, port(null)],
      target: { target: 'DNAT', ip: 'fd00:10:128::7', port: 65535 },
    },
    ['IPv6'],
  ),
];

/** The kinds of a table and a family. */
export function kindsOf(family: Family, table: Table): readonly RuleKind[] {
  return RULE_KINDS.filter((k) => k.table === table && k.families.includes(family));
}

/** Splits arguments at blanks, except within double quotes. */
export function argumentsOf(text: string): string[] {
  return [...text.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, word]) => quoted ?? word!);
}
