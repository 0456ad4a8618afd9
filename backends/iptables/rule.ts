// One iptables rule, as both writers and all readers see it. The order of matches is kube-proxy's order of arguments;
// an address or interface that is absent matches everything.

export type Table = 'nat' | 'filter' | 'mangle';
export const TABLES: readonly Table[] = ['mangle', 'filter', 'nat'];

/** `not` is the `!` in front of the option. */
export interface AddressMatch {
  /** Canonical CIDR, always with a prefix length. */
  readonly cidr: string;
  readonly not: boolean;
}

export interface InterfaceMatch {
  readonly name: string;
  /** The name is a prefix (`name+`). */
  readonly prefix: boolean;
  readonly not: boolean;
}

export type Protocol = 'tcp' | 'udp' | 'sctp';
export type ConntrackState = 'INVALID' | 'NEW' | 'RELATED' | 'ESTABLISHED' | 'DNAT';

export type Match =
  | { readonly match: 'comment'; readonly text: string }
  /** `-m tcp --dport N`; null without a port. The protocol is the rule's. */
  | { readonly match: 'port'; readonly port: number | null }
  | { readonly match: 'addrtype'; readonly side: 'src' | 'dst' }
  | { readonly match: 'conntrack'; readonly states: readonly ConntrackState[]; readonly not: boolean }
  | { readonly match: 'mark'; readonly value: number; readonly mask: number; readonly not: boolean }
  | { readonly match: 'nfacct'; readonly name: string }
  /** `set` remembers the source; `check` looks for it (rcheck --seconds --reap). */
  | { readonly match: 'recent'; readonly list: string; readonly op: 'set' | 'check'; readonly seconds: number }
  /** Of 2³¹: the kernel's own unit, so that equal rules are equal whatever text they came from (I-22). */
  | { readonly match: 'statistic'; readonly threshold: number };

export type Target =
  | { readonly target: 'jump'; readonly chain: string }
  | { readonly target: 'DROP' | 'ACCEPT' | 'RETURN' }
  /** `--set-xmark value/mask`: or with a bit is bit/bit, xor is bit/0. */
  | { readonly target: 'MARK'; readonly value: number; readonly mask: number }
  | { readonly target: 'MASQUERADE'; readonly randomFully: boolean }
  /** With its default type, port unreachable (S-6). */
  | { readonly target: 'REJECT' }
  | { readonly target: 'DNAT'; readonly ip: string; readonly port: number };

export interface Rule {
  readonly source?: AddressMatch;
  readonly destination?: AddressMatch;
  readonly input?: InterfaceMatch;
  readonly protocol?: Protocol;
  readonly matches: readonly Match[];
  /** null: the rule only counts and notes (I-18). */
  readonly target: Target | null;
}

/** Chains of one table, by name, each with its rules in order. */
export type Chains = Map<string, readonly Rule[]>;

/** The same for equal rules; the order of fields does not matter, that of matches does. */
export function ruleKey(rule: Rule): string {
  const { source, destination, input, protocol, matches, target } = rule;
  const address = (a: AddressMatch | undefined): string => (a ? `${a.not ? '!' : ''}${a.cidr}` : '');
  const device = input ? `${input.not ? '!' : ''}${input.name}${input.prefix ? '+' : ''}` : '';
  return JSON.stringify([
    address(source),
    address(destination),
    device,
    protocol ?? '',
    matches.map(sorted),
    target && sorted(target),
  ]);
}

function sorted(fields: Match | Target): [string, unknown][] {
  return Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1));
}
