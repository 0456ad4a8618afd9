// The rules of one Service: its own chains, and what it adds to the chains all Services share (I-12…I-20, I-25…I-27).
// Pure; order and comments are kube-proxy's, so that its rules are found equal and left alone.
import {
  type Endpoint,
  type NodeSettings,
  type ServicePlan,
  type ServicePortPlan,
  servicePortName,
} from '../service-plan.ts';
import { type Detector, detectorOf } from './detector.ts';
import { endpointChain, type ServiceChains, serviceChains } from './names.ts';
import { probabilityThreshold } from './probability.ts';
import type { AddressMatch, Match, Protocol, Rule, Table, Target } from './rule.ts';

/** Counter of packets to node ports on loopback addresses (I-56). */
export const LOCALHOST_COUNTER = 'localhost_nps_accepted_pkts';

/** Above this number of endpoints of a family, rules of endpoints come without comments (I-31). */
export const LARGE_CLUSTER_ENDPOINTS = 1000;

export interface ServiceRenderOptions {
  readonly settings: NodeSettings;
  readonly largeCluster: boolean;
  /** Names of the nfacct counters that exist (I-56). */
  readonly nfacct: readonly string[];
}

/** What a Service adds to a chain it shares with others, in this order. */
export interface SharedRules {
  readonly table: Table;
  readonly chain: string;
  readonly rules: readonly Rule[];
}

export interface ServiceRules {
  /** One entry for each shared chain it adds to. */
  readonly shared: readonly SharedRules[];
  /** Its own chains, all in table nat; a chain comes before those that jump to it. */
  readonly own: ReadonlyMap<string, readonly Rule[]>;
}

/** The plan's family must be among those of the settings. */
export function renderService(plan: ServicePlan, options: ServiceRenderOptions): ServiceRules {
  const shared = new Map<string, { table: Table; chain: string; rules: Rule[] }>();
  const own = new Map<string, Rule[]>();
  const family = options.settings.families[plan.family];
  if (family === undefined) throw new Error(`Service ${plan.namespace}/${plan.name}: no settings for ${plan.family}`);
  const detector = detectorOf(family.detectLocal);
  const host = plan.family === 'IPv4' ? '/32' : '/128';
  const nfacct = family.localhostNodePorts && options.nfacct.includes(LOCALHOST_COUNTER);
  for (const port of plan.ports) {
    const { hasEndpoints, internalLocal, externalLocal, local } = port;
    const name = servicePortName(plan, port);
    const portRules: PortRules = {
      port,
      name,
      protocol: PROTOCOLS[port.protocol],
      chains: serviceChains(name, port.protocol),
      detector,
      host,
      masqueradeAll: options.settings.masqueradeAll,
      largeCluster: options.largeCluster,
      nfacct,
      servesInside: hasEndpoints && !(internalLocal && local.length === 0),
      servesOutside: hasEndpoints && !(externalLocal && local.length === 0),
      filtered: hasEndpoints && port.sourceRanges.length > 0 && port.frontends.some((f) => f.kind === 'loadBalancer'),
      add(table, chain, rule) {
        const key = `${table} ${chain}`;
        let entry = shared.get(key);
        if (entry === undefined) shared.set(key, (entry = { table, chain, rules: [] }));
        entry.rules.push(rule);
      },
    };
    dispatch(portRules);
    if (plan.healthCheckNodePort !== 0) {
      const matches = [comment(`${name} health check node port`), portMatch(plan.healthCheckNodePort)];
      portRules.add('filter', 'KUBE-NODEPORTS', { protocol: 'tcp', matches, target: ACCEPT });
    }
    if (hasEndpoints) ownChains(portRules, own);
  }
  return { shared: [...shared.values()], own };
}

/** What the rules of one ServicePort are made of. */
interface PortRules {
  readonly port: ServicePortPlan;
  /** `namespace/name:port`. */
  readonly name: string;
  readonly protocol: Protocol;
  readonly chains: ServiceChains;
  readonly detector: Detector | null;
  /** Prefix length of a single address. */
  readonly host: string;
  readonly masqueradeAll: boolean;
  readonly largeCluster: boolean;
  /** Node ports on loopback addresses are counted. */
  readonly nfacct: boolean;
  /** The cluster IP, or what is reached from outside, has endpoints to go to (S-30…S-32). */
  readonly servesInside: boolean;
  readonly servesOutside: boolean;
  /** Source ranges are in force (I-18). */
  readonly filtered: boolean;
  add(table: Table, chain: string, rule: Rule): void;
}

const PROTOCOLS: Readonly<Record<ServicePortPlan['protocol'], Protocol>> = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' };
const DROP: Target = { target: 'DROP' };
const ACCEPT: Target = { target: 'ACCEPT' };
const REJECT: Target = { target: 'REJECT' };
const MARK_MASQ: Target = { target: 'jump', chain: 'KUBE-MARK-MASQ' };
const TO_LOCAL: Match = { match: 'addrtype', side: 'dst' };
const FROM_LOCAL: Match = { match: 'addrtype', side: 'src' };
const NO_PORT: Match = { match: 'port', port: null };
const LOOPBACK: AddressMatch = { cidr: '127.0.0.0/8', not: false };

const comment = (text: string): Match => ({ match: 'comment', text });
const portMatch = (port: number): Match => ({ match: 'port', port });
const jump = (chain: string): Target => ({ target: 'jump', chain });
const address = (cidr: string): AddressMatch => ({ cidr, not: false });

/** Rules that catch packets to the frontends, in the chains of all Services. */
function dispatch(p: PortRules): void {
  const { port, name, chains, protocol } = p;
  const refusal = port.hasEndpoints ? DROP : REJECT;
  const refusalComment = comment(`${name} has no ${port.hasEndpoints ? 'local ' : ''}endpoints`);
  const rule = (ip: string, number: number, text: Match, target: Target): Rule => ({
    destination: address(ip + p.host),
    protocol,
    matches: [text, portMatch(number)],
    target,
  });
  const serve = (kind: string, chain: string, frontend: { ip: string; port: number }): void =>
    p.add('nat', 'KUBE-SERVICES', rule(frontend.ip, frontend.port, comment(`${name} ${kind}`), jump(chain)));
  const refuse = (chain: string, frontend: { ip: string; port: number }): void =>
    p.add('filter', chain, rule(frontend.ip, frontend.port, refusalComment, refusal));

  // An address that is both is served as external IP: the first rule wins (S-46).
  const order = ['clusterIP', 'externalIP', 'loadBalancer', 'nodePort'] as const;
  for (const kind of order) {
    for (const frontend of port.frontends) {
      if (frontend.kind !== kind) continue;
      const at = { ip: frontend.ip!, port: frontend.port };
      if (kind === 'nodePort') {
        nodePort(p, frontend.port, [refusalComment, TO_LOCAL, portMatch(frontend.port)], refusal);
      } else if (kind === 'clusterIP') {
        if (p.servesInside) serve('cluster IP', internalChain(p), at);
        else refuse('KUBE-SERVICES', at);
      } else {
        if (port.hasEndpoints) {
          if (kind === 'externalIP') serve('external IP', chains.external, at);
          else serve('loadbalancer IP', p.filtered ? chains.firewall : chains.external, at);
        }
        if (kind === 'loadBalancer' && p.filtered) {
          const text = comment(`${name} traffic not accepted by ${chains.firewall}`);
          p.add('filter', 'KUBE-PROXY-FIREWALL', rule(at.ip, at.port, text, DROP));
        }
        if (!p.servesOutside) refuse('KUBE-EXTERNAL-SERVICES', at);
      }
    }
  }
}

function nodePort(
  { port, name, chains, protocol, nfacct, servesOutside, add }: PortRules,
  number: number,
  refusalMatches: Match[],
  refusal: Target,
): void {
  if (port.hasEndpoints) {
    const matches = [comment(name), portMatch(number)];
    const target = jump(chains.external);
    if (nfacct) {
      const counted: Match[] = [...matches, { match: 'nfacct', name: LOCALHOST_COUNTER }];
      add('nat', 'KUBE-NODEPORTS', { destination: LOOPBACK, protocol, matches: counted, target });
    }
    add('nat', 'KUBE-NODEPORTS', { protocol, matches, target });
  }
  if (!servesOutside) add('filter', 'KUBE-EXTERNAL-SERVICES', { protocol, matches: refusalMatches, target: refusal });
}

const internalChain = ({ port, chains }: PortRules): string => (port.internalLocal ? chains.local : chains.cluster);

/** KUBE-SEP, KUBE-SVC, KUBE-SVL, KUBE-EXT and KUBE-FW of a ServicePort that has endpoints. */
function ownChains(p: PortRules, own: Map<string, Rule[]>): void {
  const { port, chains } = p;
  const endpoints = new Map<Endpoint['key'], string>();
  for (const set of [port.cluster, port.local]) {
    for (const endpoint of set) {
      if (endpoints.has(endpoint.key)) continue;
      const chain = endpointChain(p.name, port.protocol, endpoint.key);
      endpoints.set(endpoint.key, chain);
      own.set(chain, endpointRules(p, endpoint, chain));
    }
  }
  if (port.cluster.length > 0) own.set(chains.cluster, choiceRules(p, chains.cluster, port.cluster, endpoints));
  if (port.local.length > 0) own.set(chains.local, choiceRules(p, chains.local, port.local, endpoints));
  if (port.frontends.some(({ kind }) => kind !== 'clusterIP')) own.set(chains.external, externalRules(p));
  if (p.filtered) own.set(chains.firewall, firewallRules(p));
}

/** I-20. */
function endpointRules(p: PortRules, endpoint: Endpoint, chain: string): Rule[] {
  const { port, protocol } = p;
  const comments = p.largeCluster ? [] : [comment(p.name)];
  const matches = [...comments];
  if (port.affinitySeconds !== null) matches.push({ match: 'recent', list: chain, op: 'set', seconds: 0 });
  matches.push(NO_PORT);
  const target: Target = { target: 'DNAT', ip: endpoint.ip, port: endpoint.port };
  return [
    { source: address(endpoint.ip + p.host), matches: comments, target: MARK_MASQ },
    { protocol, matches, target },
  ];
}

/** KUBE-SVC or KUBE-SVL: I-15, I-16, I-21. */
function choiceRules(
  p: PortRules,
  chain: string,
  set: readonly Endpoint[],
  chains: ReadonlyMap<string, string>,
): Rule[] {
  const out: Rule[] = [];
  if (p.servesInside && chain === internalChain(p)) out.push(...clusterIPMasquerade(p));
  const ways = set.map(({ key }) => ({
    target: jump(chains.get(key)!),
    list: chains.get(key)!,
    comments: p.largeCluster ? [] : [comment(`${p.name} -> ${key}`)],
  }));
  const seconds = p.port.affinitySeconds;
  if (seconds !== null) {
    for (const { target, list, comments } of ways) {
      out.push({ matches: [...comments, { match: 'recent', list, op: 'check', seconds }], target });
    }
  }
  for (const [i, { target, comments }] of ways.entries()) {
    const left = ways.length - i;
    const chance: Match[] = left > 1 ? [{ match: 'statistic', threshold: probabilityThreshold(left) }] : [];
    out.push({ matches: [...comments, ...chance], target });
  }
  return out;
}

/** I-15: names the cluster IP again, because external traffic comes through the same chain. */
function clusterIPMasquerade(p: PortRules): Rule[] {
  const frontend = p.port.frontends.find(({ kind }) => kind === 'clusterIP');
  const where = p.masqueradeAll ? {} : p.detector?.outside;
  if (frontend === undefined || where === undefined || where === null) return [];
  return [
    {
      ...where,
      destination: address(frontend.ip! + p.host),
      protocol: p.protocol,
      matches: [comment(`${p.name} cluster IP`), portMatch(frontend.port)],
      target: MARK_MASQ,
    },
  ];
}

/** KUBE-EXT: I-17. */
function externalRules({ port, name, chains, detector, servesOutside }: PortRules): Rule[] {
  const text = (what: string): Match => comment(`${what} for ${name} external destinations`);
  const toCluster = jump(chains.cluster);
  if (!port.externalLocal) {
    return [
      { matches: [text('masquerade traffic')], target: MARK_MASQ },
      { matches: [], target: toCluster },
    ];
  }
  const out: Rule[] = [];
  if (detector !== null) out.push({ ...detector.inside, matches: [text('pod traffic')], target: toCluster });
  out.push(
    { matches: [text('masquerade LOCAL traffic'), FROM_LOCAL], target: MARK_MASQ },
    { matches: [text('route LOCAL traffic'), FROM_LOCAL], target: toCluster },
  );
  if (servesOutside) out.push({ matches: [], target: jump(chains.local) });
  return out;
}

/** KUBE-FW: I-18. */
function firewallRules({ port, name, chains, host }: PortRules): Rule[] {
  const sources = [...port.sourceRanges];
  if (port.sourcesIncludeNode) {
    for (const { kind, ip } of port.frontends) if (kind === 'loadBalancer') sources.push(ip! + host);
  }
  const matches = [comment(`${name} loadbalancer IP`)];
  const target = jump(chains.external);
  return [
    ...sources.map((cidr): Rule => ({ source: address(cidr), matches, target })),
    { matches: [comment(`other traffic to ${name} will be dropped by KUBE-PROXY-FIREWALL`)], target: null },
  ];
}
