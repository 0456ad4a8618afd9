// What is there whatever Services exist: the top-level chains, the jumps to them from the built-in chains, and the rules
// that depend on the node's settings alone (I-1, I-5, I-10, I-11, I-13, I-23, I-24, I-47).
import type { Family } from '../../native/ip.ts';
import type { NodeSettings } from '../service-plan.ts';
import type { Chains, ConntrackState, Match, Rule, Table, Target } from './rule.ts';

/** Counter of packets dropped in conntrack state INVALID (I-56). */
export const INVALID_COUNTER = 'ct_state_invalid_dropped_pkts';

/** Looked for by others, and by us in mangle, to notice that rules were flushed (I-47). */
export const CANARY = 'KUBE-PROXY-CANARY';
/** The kubelet's as well: it and the jumps to it stay when everything else goes (I-7). */
export const FIREWALL_CHAIN = 'KUBE-FIREWALL';

/** All chains that exist whatever Services there are (I-1). */
export const TOP_CHAINS: Readonly<Record<Table, readonly string[]>> = {
  mangle: [CANARY],
  filter: [
    'KUBE-SERVICES',
    'KUBE-EXTERNAL-SERVICES',
    'KUBE-NODEPORTS',
    'KUBE-FORWARD',
    'KUBE-PROXY-FIREWALL',
    FIREWALL_CHAIN,
    CANARY,
  ],
  nat: ['KUBE-SERVICES', 'KUBE-NODEPORTS', 'KUBE-POSTROUTING', 'KUBE-MARK-MASQ', CANARY],
};

/** The top-level chains Services add rules to. */
export const SHARED_CHAINS: Readonly<Record<Table, readonly string[]>> = {
  mangle: [],
  filter: ['KUBE-SERVICES', 'KUBE-EXTERNAL-SERVICES', 'KUBE-NODEPORTS', 'KUBE-PROXY-FIREWALL'],
  nat: ['KUBE-SERVICES', 'KUBE-NODEPORTS'],
};

/** Built-in chains in the order of their hooks, as the tools list them. */
export const BUILTIN_CHAINS: Readonly<Record<Table, readonly string[]>> = {
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
};

/** A rule of ours in a built-in chain. */
export interface Jump {
  readonly table: Table;
  /** The built-in chain. */
  readonly from: string;
  readonly rule: Rule;
}

const comment = (text: string): Match => ({ match: 'comment', text });
const states = (list: readonly ConntrackState[], not = false): Match => ({ match: 'conntrack', states: list, not });
const jumpTo = (chain: string): Target => ({ target: 'jump', chain });

/** A jump with a comment, unless it is null. */
export function jump(table: Table, from: string, to: string, text: string | null, onlyNew = false): Jump {
  const matches: Match[] = [];
  if (onlyNew) matches.push(states(['NEW']));
  if (text !== null) matches.push(comment(text));
  return { table, from, rule: { matches, target: jumpTo(to) } };
}

const EXTERNAL = 'kubernetes externally-visible service portals';
const PORTALS = 'kubernetes service portals';
const FIREWALL = 'kubernetes load balancer firewall';

/**
 * In the order in which they are put in, each at the top of its chain unless an equal rule is anywhere in it: they end
 * up the other way round (I-5, I-6).
 */
export const JUMPS: readonly Jump[] = [
  jump('filter', 'INPUT', 'KUBE-EXTERNAL-SERVICES', EXTERNAL, true),
  jump('filter', 'FORWARD', 'KUBE-EXTERNAL-SERVICES', EXTERNAL, true),
  jump('filter', 'INPUT', 'KUBE-NODEPORTS', 'kubernetes health check service ports'),
  jump('filter', 'FORWARD', 'KUBE-SERVICES', PORTALS, true),
  jump('filter', 'OUTPUT', 'KUBE-SERVICES', PORTALS, true),
  jump('filter', 'FORWARD', 'KUBE-FORWARD', 'kubernetes forwarding rules'),
  jump('filter', 'INPUT', 'KUBE-PROXY-FIREWALL', FIREWALL, true),
  jump('filter', 'OUTPUT', 'KUBE-PROXY-FIREWALL', FIREWALL, true),
  jump('filter', 'FORWARD', 'KUBE-PROXY-FIREWALL', FIREWALL, true),
  jump('nat', 'OUTPUT', 'KUBE-SERVICES', PORTALS),
  jump('nat', 'PREROUTING', 'KUBE-SERVICES', PORTALS),
  jump('nat', 'POSTROUTING', 'KUBE-POSTROUTING', 'kubernetes postrouting rules'),
  jump('filter', 'INPUT', FIREWALL_CHAIN, null),
  jump('filter', 'OUTPUT', FIREWALL_CHAIN, null),
];

export interface FixedOptions {
  readonly settings: NodeSettings;
  readonly family: Family;
  /** Names of the nfacct counters that exist (I-56). */
  readonly nfacct: readonly string[];
  /** MASQUERADE chooses source ports at random: iptables 1.6.2 or newer, or no tool at all (I-10). */
  readonly randomFully: boolean;
}

/**
 * Chains whose whole content follows from the settings. KUBE-FIREWALL is not among them when loopback node ports are
 * off: then its rules, if any, are somebody else's (I-24).
 */
export function fixedChains({ settings, family, nfacct, randomFully }: FixedOptions): Record<Table, Chains> {
  const bit = 2 ** settings.masqueradeBit;
  const marked = (not: boolean): Match => ({ match: 'mark', value: bit, mask: bit, not });
  const forward: Rule[] = [
    { matches: [comment('kubernetes forwarding rules'), marked(false)], target: { target: 'ACCEPT' } },
    {
      matches: [comment('kubernetes forwarding conntrack rule'), states(['RELATED', 'ESTABLISHED'])],
      target: { target: 'ACCEPT' },
    },
  ];
  if (settings.dropInvalid) {
    const counter: Match[] = nfacct.includes(INVALID_COUNTER) ? [{ match: 'nfacct', name: INVALID_COUNTER }] : [];
    forward.unshift({ matches: [states(['INVALID']), ...counter], target: { target: 'DROP' } });
  }
  const filter: Chains = new Map([['KUBE-FORWARD', forward]]);
  if (settings.families[family]?.localhostNodePorts) filter.set(FIREWALL_CHAIN, [LOCALNET_GUARD]);
  filter.set(CANARY, []);
  const nat: Chains = new Map<string, readonly Rule[]>([
    ['KUBE-MARK-MASQ', [{ matches: [], target: { target: 'MARK', value: bit, mask: bit } }]],
    [
      'KUBE-POSTROUTING',
      [
        { matches: [marked(true)], target: { target: 'RETURN' } },
        { matches: [], target: { target: 'MARK', value: bit, mask: 0 } },
        {
          matches: [comment('kubernetes service traffic requiring SNAT')],
          target: { target: 'MASQUERADE', randomFully },
        },
      ],
    ],
    [CANARY, []],
  ]);
  return { mangle: new Map([[CANARY, []]]), filter, nat };
}

/** The kubelet writes the very same rule. */
const LOCALNET_GUARD: Rule = {
  source: { cidr: '127.0.0.0/8', not: true },
  destination: { cidr: '127.0.0.0/8', not: false },
  matches: [comment('block incoming localnet connections'), states(['RELATED', 'ESTABLISHED', 'DNAT'], true)],
  target: { target: 'DROP' },
};

/** The last rules of KUBE-SERVICES in table nat, which lead to KUBE-NODEPORTS (I-13). */
export function nodePortJumps({ settings, family }: Pick<FixedOptions, 'settings' | 'family'>): Rule[] {
  const own = settings.families[family];
  if (own === undefined) throw new Error(`no settings for ${family}`);
  const text = comment('kubernetes service nodeports; NOTE: this must be the last rule in this chain');
  const target = jumpTo('KUBE-NODEPORTS');
  if (own.nodePortAddresses !== 'all') {
    const host = family === 'IPv4' ? '/32' : '/128';
    return own.nodePortAddresses.map((ip) => ({
      destination: { cidr: ip + host, not: false },
      matches: [text],
      target,
    }));
  }
  const loopback = family === 'IPv4' ? '127.0.0.0/8' : '::1/128';
  return [
    {
      ...(!own.localhostNodePorts && { destination: { cidr: loopback, not: true } }),
      matches: [text, { match: 'addrtype', side: 'dst' }],
      target,
    },
  ];
}
