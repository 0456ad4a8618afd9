// A Service reduced to what this node needs, from untrusted JSON.

import type { Protocol } from '../../backends/service-plan.ts';
import { FAMILIES, type Family, familyOf, parseCidr } from '../../native/ip.ts';
import {
  asObject,
  isDnsLabel,
  isPort,
  type Json,
  type PerFamily,
  parseObject,
  readChoice,
  readIP,
  readList,
  readObject,
  readOptionalPort,
  readText,
  unusableIP,
} from './fields.ts';
import { type Parsed, type ProblemList, show } from './problem.ts';

export interface Service {
  readonly namespace: string;
  readonly name: string;
  /** `namespace/name`. */
  readonly key: string;
  /** Milliseconds since the epoch; Infinity when unknown, so that it counts as youngest (N-18). */
  readonly createdMs: number;
  /** null: the Service does not exist for the family (E-3). */
  readonly clusterIP: PerFamily<string | null>;
  readonly externalIPs: PerFamily<readonly string[]>;
  /** Load balancer IPs in VIP mode (S-11). */
  readonly loadBalancerIPs: PerFamily<readonly string[]>;
  /** Canonical CIDRs; empty allows all (S-12). */
  readonly sourceRanges: PerFamily<readonly string[]>;
  /** E-23. */
  readonly internalLocal: boolean;
  /** E-24. */
  readonly externalLocal: boolean;
  /** 0 = none (S-52). */
  readonly healthCheckNodePort: number;
  /** null = no affinity (S-13). */
  readonly affinitySeconds: number | null;
  /** Sorted by name. */
  readonly ports: readonly ServiceSpecPort[];
}

export interface ServiceSpecPort {
  /** '' when unnamed. */
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
  /** 0 = none. */
  readonly nodePort: number;
  /** Place in spec.ports, for Problems. */
  readonly index: number;
}

export const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];
const PROXY_NAME_LABEL = 'service.kubernetes.io/service-proxy-name';
const DEFAULT_AFFINITY_SECONDS = 10800;
const MAX_AFFINITY_SECONDS = 86400;

/** Selects (E-1, E-2) and reduces a Service. */
export function parseService(raw: unknown): Parsed<Service> {
  return parseObject('Service', raw, isDnsLabel, readService);
}

function readService(object: Json, metadata: Json, problems: ProblemList): Service | null {
  const labels = asObject(metadata.labels);
  if (labels !== null && Object.hasOwn(labels, PROXY_NAME_LABEL)) return null;
  const spec = asObject(object.spec);
  if (spec === null) {
    problems.add('spec', `is ${show(object.spec)} instead of an object`);
    return null;
  }
  if (spec.type === 'ExternalName') return null;
  const clusterIP = readText(problems, spec.clusterIP, 'spec.clusterIP');
  if (clusterIP === null || clusterIP === '' || clusterIP === 'None') return null;

  const type = readChoice(problems, spec.type, 'spec.type', ['ClusterIP', 'NodePort', 'LoadBalancer'], 'ClusterIP');
  const rawExternalIPs = readList(problems, spec.externalIPs, 'spec.externalIPs');
  const internal = readChoice(problems, spec.internalTrafficPolicy, 'spec.internalTrafficPolicy', POLICIES, 'Cluster');
  const external = readChoice(problems, spec.externalTrafficPolicy, 'spec.externalTrafficPolicy', POLICIES, 'Cluster');
  const externalLocal = external === 'Local' && (type !== 'ClusterIP' || rawExternalIPs.length > 0);
  const healthCheckNodePort = readOptionalPort(problems, spec.healthCheckNodePort, 'spec.healthCheckNodePort');
  return {
    namespace: metadata.namespace as string,
    name: metadata.name as string,
    key: `${metadata.namespace}/${metadata.name}`,
    createdMs: readTime(problems, metadata.creationTimestamp, 'metadata.creationTimestamp'),
    clusterIP: readClusterIPs(problems, spec, clusterIP),
    externalIPs: readIPs(problems, rawExternalIPs, (i) => `spec.externalIPs[${i}]`),
    loadBalancerIPs: readLoadBalancerIPs(problems, object.status),
    sourceRanges: readSourceRanges(problems, spec),
    internalLocal: internal === 'Local',
    externalLocal,
    healthCheckNodePort: type === 'LoadBalancer' && externalLocal ? healthCheckNodePort : 0,
    affinitySeconds: readAffinity(problems, spec),
    ports: readPorts(problems, spec),
  };
}

const POLICIES = ['Cluster', 'Local'] as const;

/** Milliseconds since the epoch; Infinity when missing or, with a Problem, unusable. */
function readTime(problems: ProblemList, value: unknown, field: string): number {
  if (value === undefined || value === null) return Number.POSITIVE_INFINITY;
  const ms = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  if (!Number.isNaN(ms)) return ms;
  problems.add(field, `${show(value)} is no time`);
  return Number.POSITIVE_INFINITY;
}

function readClusterIPs(problems: ProblemList, spec: Json, clusterIP: string): PerFamily<string | null> {
  const out: Record<Family, string | null> = { IPv4: null, IPv6: null };
  const families = readList(problems, spec.ipFamilies, 'spec.ipFamilies');
  if (families.length === 0) {
    const ip = readFrontendIP(problems, clusterIP, 'spec.clusterIP');
    if (ip !== null) out[familyOf(ip)] = ip;
    return out;
  }
  const clusterIPs = readList(problems, spec.clusterIPs, 'spec.clusterIPs');
  for (const [i, family] of families.entries()) {
    if (!FAMILIES.includes(family as Family)) problems.add(`spec.ipFamilies[${i}]`, `${show(family)} is no IP family`);
  }
  for (const family of FAMILIES) {
    const i = families.indexOf(family);
    if (i < 0 || i >= clusterIPs.length) continue;
    const field = `spec.clusterIPs[${i}]`;
    const ip = readFrontendIP(problems, clusterIPs[i], field);
    if (ip === null) continue;
    if (familyOf(ip) === family) out[family] = ip;
    else problems.add(field, `${ip} is no ${family} address, but spec.ipFamilies[${i}] says so`);
  }
  return out;
}

/** An address clients may dial, or null with a Problem. */
function readFrontendIP(problems: ProblemList, value: unknown, field: string): string | null {
  const ip = readIP(value);
  if (ip === null) {
    problems.add(field, `${show(value)} is no IP address`);
    return null;
  }
  const why = unusableIP(ip);
  if (why !== null) problems.add(field, `${ip} is ${why} and cannot be served`);
  return why === null ? ip : null;
}

function readIPs(
  problems: ProblemList,
  values: readonly unknown[],
  field: (i: number) => string,
): PerFamily<readonly string[]> {
  if (values.length === 0) return NO_TEXTS;
  const out = { IPv4: new Set<string>(), IPv6: new Set<string>() };
  for (const [i, value] of values.entries()) {
    const ip = value === undefined ? null : readFrontendIP(problems, value, field(i));
    if (ip !== null) out[familyOf(ip)].add(ip);
  }
  return { IPv4: [...out.IPv4], IPv6: [...out.IPv6] };
}

const NO_TEXTS: PerFamily<readonly string[]> = { IPv4: [], IPv6: [] };

function readLoadBalancerIPs(problems: ProblemList, status: unknown): PerFamily<readonly string[]> {
  const loadBalancer = readObject(problems, readObject(problems, status, 'status').loadBalancer, 'status.loadBalancer');
  const ingress = readList(problems, loadBalancer.ingress, 'status.loadBalancer.ingress');
  const ips = ingress.map((entry, i) => {
    const field = `status.loadBalancer.ingress[${i}]`;
    const { ip, ipMode } = readObject(problems, entry, field);
    if (ip === undefined || ip === null || ip === '') return undefined; // hostname only
    if (ipMode === undefined || ipMode === null || ipMode === 'VIP') return ip;
    if (ipMode !== 'Proxy') problems.add(`${field}.ipMode`, `is ${show(ipMode)}, so the address is ignored`);
    return undefined;
  });
  return readIPs(problems, ips, (i) => `status.loadBalancer.ingress[${i}].ip`);
}

function readSourceRanges(problems: ProblemList, spec: Json): PerFamily<readonly string[]> {
  const values = readList(problems, spec.loadBalancerSourceRanges, 'spec.loadBalancerSourceRanges');
  if (values.length === 0) return NO_TEXTS;
  const out = { IPv4: new Set<string>(), IPv6: new Set<string>() };
  const all = new Set<Family>();
  for (const [i, value] of values.entries()) {
    const cidr = typeof value === 'string' ? parseCidr(value.trim()) : null;
    if (cidr === null) {
      problems.add(`spec.loadBalancerSourceRanges[${i}]`, `${show(value)} is no CIDR`);
    } else {
      out[cidr.family].add(cidr.text);
      if (cidr.prefix === 0) all.add(cidr.family);
    }
  }
  return { IPv4: all.has('IPv4') ? [] : [...out.IPv4], IPv6: all.has('IPv6') ? [] : [...out.IPv6] };
}

function readAffinity(problems: ProblemList, spec: Json): number | null {
  if (readChoice(problems, spec.sessionAffinity, 'spec.sessionAffinity', ['None', 'ClientIP'], 'None') === 'None') {
    return null;
  }
  const config = readObject(problems, spec.sessionAffinityConfig, 'spec.sessionAffinityConfig');
  const seconds = readObject(problems, config.clientIP, 'spec.sessionAffinityConfig.clientIP').timeoutSeconds;
  if (seconds === undefined || seconds === null) return DEFAULT_AFFINITY_SECONDS;
  if (Number.isInteger(seconds) && (seconds as number) >= 1 && (seconds as number) <= MAX_AFFINITY_SECONDS) {
    return seconds as number;
  }
  problems.add(
    'spec.sessionAffinityConfig.clientIP.timeoutSeconds',
    `is ${show(seconds)} instead of 1…${MAX_AFFINITY_SECONDS}, treated as ${DEFAULT_AFFINITY_SECONDS}`,
  );
  return DEFAULT_AFFINITY_SECONDS;
}

function readPorts(problems: ProblemList, spec: Json): readonly ServiceSpecPort[] {
  const out: ServiceSpecPort[] = [];
  const names = new Set<string>();
  const numbers = new Set<string>();
  for (const [index, value] of readList(problems, spec.ports, 'spec.ports').entries()) {
    const field = `spec.ports[${index}]`;
    const entry = asObject(value);
    if (entry === null) {
      problems.add(field, `is ${show(value)} instead of an object`);
      continue;
    }
    const name = entry.name ?? '';
    const protocol = entry.protocol ?? 'TCP';
    const port = entry.port;
    if (typeof name !== 'string' || (name !== '' && !isDnsLabel(name))) {
      problems.add(`${field}.name`, `${show(name)} is no valid name`);
    } else if (!PROTOCOLS.includes(protocol as Protocol)) {
      problems.add(`${field}.protocol`, `${show(protocol)} is none of ${PROTOCOLS.join(', ')}`);
    } else if (!isPort(port)) {
      problems.add(`${field}.port`, `${show(port)} is no port number`);
    } else if (names.has(name)) {
      problems.add(`${field}.name`, `${show(name)} is the name of an earlier port`);
    } else if (numbers.has(`${port}/${protocol}`)) {
      problems.add(`${field}.port`, `${port}/${protocol} is taken by an earlier port`);
    } else {
      names.add(name);
      numbers.add(`${port}/${protocol}`);
      const nodePort = readOptionalPort(problems, entry.nodePort, `${field}.nodePort`);
      out.push({ name, protocol: protocol as Protocol, port, nodePort, index });
    }
  }
  return out.sort((a, b) => (a.name < b.name ? -1 : 1));
}
