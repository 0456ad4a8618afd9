// An EndpointSlice reduced to its endpoints per port, from untrusted JSON. Endpoints are made here once, sorted and
// without duplicates, so that a Service with one slice shares its lists with every plan.

import type { Endpoint, Protocol } from '../../backends/service-plan.ts';
import { type Family, familyOf } from '../../native/ip.ts';
import {
  asObject,
  isDnsLabel,
  isDnsSubdomain,
  isLinkLocal,
  isPort,
  type Json,
  parseObject,
  readIP,
  readList,
  readObject,
  readText,
  unusableIP,
} from './fields.ts';
import { internNames, internText } from './intern.ts';
import { type Parsed, type ProblemList, show } from './problem.ts';
import { PROTOCOLS } from './service.ts';

/** An Endpoint and the node it runs on. */
export interface SliceEndpoint extends Endpoint {
  /** null when the slice does not say. */
  readonly nodeName: string | null;
}

export interface SlicePort {
  /** '' when unnamed. */
  readonly name: string;
  readonly protocol: Protocol;
  /** Sorted by key, no key twice (E-18, E-20). */
  readonly endpoints: readonly SliceEndpoint[];
}

export interface EndpointSlice {
  readonly namespace: string;
  readonly name: string;
  /** `namespace/name` of the Service it belongs to (E-7). */
  readonly service: string;
  readonly family: Family;
  /** '' when missing. */
  readonly resourceVersion: string;
  /** When what it reports happened, milliseconds since the epoch (E-48); null when it does not say. */
  readonly triggerTimeMs: number | null;
  readonly ports: readonly SlicePort[];
}

const HEADLESS_LABEL = 'service.kubernetes.io/headless';
const SERVICE_LABEL = 'kubernetes.io/service-name';
const TRIGGER_TIME = 'endpoints.kubernetes.io/last-change-trigger-time';
const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;
/** Endpoints of one slice that the API allows. */
const ENDPOINT_LIMIT = 1000;
/** Endpoints times ports of one slice that are used at most. */
const SLICE_LIMIT = 100_000;

/** Selects (E-6…E-8) and reduces an EndpointSlice. `nodeName` is this node's, normalised (P-9). */
export function parseEndpointSlice(raw: unknown, options: { nodeName: string }): Parsed<EndpointSlice> {
  return parseObject('EndpointSlice', raw, isDnsSubdomain, (object, metadata, problems) =>
    readSlice(object, metadata, problems, options.nodeName),
  );
}

function readSlice(object: Json, metadata: Json, problems: ProblemList, nodeName: string): EndpointSlice | null {
  const labels = asObject(metadata.labels) ?? {};
  if (Object.hasOwn(labels, HEADLESS_LABEL)) return null;
  const family = object.addressType;
  if (family === 'FQDN') return null;
  if (family !== 'IPv4' && family !== 'IPv6') {
    problems.add('addressType', `${show(family)} is none of IPv4, IPv6, FQDN`);
    return null;
  }
  const service = Object.hasOwn(labels, SERVICE_LABEL) ? labels[SERVICE_LABEL] : undefined;
  if (typeof service !== 'string' || !isDnsLabel(service)) {
    problems.add(`metadata.labels['${SERVICE_LABEL}']`, `${show(service)} names no Service`);
    return null;
  }
  const ports = readPorts(problems, object);
  const addresses = readAddresses(problems, object, family, nodeName, Math.max(1, ports.length));
  noteContradictions(problems, addresses);
  const byNumber = new Map<number, readonly SliceEndpoint[]>();
  return {
    namespace: metadata.namespace as string,
    name: metadata.name as string,
    service: internText(`${metadata.namespace}/${service}`),
    family,
    resourceVersion: typeof metadata.resourceVersion === 'string' ? metadata.resourceVersion : '',
    triggerTimeMs: readTriggerTime(metadata),
    ports: ports.map(({ name, protocol, port }) => {
      let endpoints = byNumber.get(port);
      if (endpoints === undefined) byNumber.set(port, (endpoints = endpointsAt(addresses, port, family)));
      return { name, protocol, endpoints };
    }),
  };
}

function readTriggerTime(metadata: Json): number | null {
  const text = asObject(metadata.annotations)?.[TRIGGER_TIME];
  const ms = typeof text === 'string' && RFC3339.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(ms) ? null : ms;
}

function readPorts(problems: ProblemList, object: Json): { name: string; protocol: Protocol; port: number }[] {
  const out: { name: string; protocol: Protocol; port: number }[] = [];
  const seen = new Set<string>();
  for (const [i, value] of readList(problems, object.ports, 'ports').entries()) {
    const entry = asObject(value);
    const name = entry?.name;
    const protocol = entry?.protocol ?? 'TCP';
    const port = entry?.port;
    if (entry === null) problems.add(`ports[${i}]`, `is ${show(value)} instead of an object`);
    else if (typeof name !== 'string' || (name !== '' && !isDnsLabel(name))) {
      problems.add(`ports[${i}].name`, `${show(name)} is no valid name`);
    } else if (!PROTOCOLS.includes(protocol as Protocol)) {
      problems.add(`ports[${i}].protocol`, `${show(protocol)} is none of ${PROTOCOLS.join(', ')}`);
    } else if (!isPort(port)) problems.add(`ports[${i}].port`, `${show(port)} is no port number`);
    else if (!seen.has(`${name}/${protocol}/${port}`)) {
      seen.add(`${name}/${protocol}/${port}`);
      out.push({ name: internText(name), protocol: protocol as Protocol, port });
    }
  }
  return out;
}

/** What an endpoint is under whatever port. */
type Address = Omit<SliceEndpoint, 'port' | 'key'>;

function readAddresses(
  problems: ProblemList,
  object: Json,
  family: Family,
  nodeName: string,
  ports: number,
): readonly Address[] {
  const out: Address[] = [];
  const values = readList(problems, object.endpoints, 'endpoints');
  const limit = Math.floor(SLICE_LIMIT / ports);
  if (values.length > limit) {
    problems.add('endpoints', `${values.length} are too many for ${ports} ports, only the first ${limit} are used`);
  } else if (values.length > ENDPOINT_LIMIT) {
    problems.add('endpoints', `${values.length} are more than the ${ENDPOINT_LIMIT} the API allows in a slice`);
  }
  for (let i = 0; i < values.length && i < limit; i++) {
    const entry = asObject(values[i]);
    if (entry === null) {
      problems.add(`endpoints[${i}]`, `is ${show(values[i])} instead of an object`);
      continue;
    }
    const text = Array.isArray(entry.addresses) ? entry.addresses[0] : undefined;
    const ip = readIP(text);
    const why = ip === null ? null : (unusableIP(ip) ?? (isLinkLocal(ip) ? 'link-local' : null));
    if (ip === null || familyOf(ip) !== family) {
      problems.add(`endpoints[${i}].addresses`, `${show(text)} is no ${family} address`);
    } else if (why !== null) {
      problems.add(`endpoints[${i}].addresses`, `${ip} is ${why} and cannot be an endpoint`);
    } else {
      const conditions = readConditions(problems, entry, i);
      const node = readText(problems, entry.nodeName, `endpoints[${i}].nodeName`);
      const hints = readObject(problems, entry.hints, `endpoints[${i}].hints`);
      out.push({
        ip,
        local: nodeName !== '' && node === nodeName,
        ready: conditions.ready,
        serving: conditions.serving,
        terminating: conditions.terminating,
        zoneHints: readHints(problems, hints.forZones, `endpoints[${i}].hints.forZones`),
        nodeHints: readHints(problems, hints.forNodes, `endpoints[${i}].hints.forNodes`),
        nodeName: node === null ? null : internText(node),
      });
    }
  }
  return out;
}

const DEFAULT_CONDITIONS = { ready: true, serving: true, terminating: false }; // E-15

function readConditions(problems: ProblemList, entry: Json, i: number): typeof DEFAULT_CONDITIONS {
  const conditions = asObject(entry.conditions);
  if (conditions === null) {
    if (entry.conditions !== undefined && entry.conditions !== null) {
      problems.add(`endpoints[${i}].conditions`, `is ${show(entry.conditions)} instead of an object`);
    }
    return DEFAULT_CONDITIONS;
  }
  const read = (name: keyof typeof DEFAULT_CONDITIONS) => {
    const value = conditions[name];
    if (typeof value === 'boolean') return value;
    if (value !== undefined && value !== null) {
      problems.add(`endpoints[${i}].conditions.${name}`, `is ${show(value)} instead of a boolean`);
    }
    return DEFAULT_CONDITIONS[name];
  };
  return { ready: read('ready'), serving: read('serving'), terminating: read('terminating') };
}

/** A senseless hint counts as missing, which makes the hints of the whole ServicePort void (E-37). */
function readHints(problems: ProblemList, value: unknown, field: string): readonly string[] | null {
  const hints = readList(problems, value, field);
  if (hints.length === 0) return null;
  const names = hints.map((hint) => asObject(hint)?.name).filter((name) => typeof name === 'string');
  if (names.length < hints.length) problems.add(field, 'holds something without a name');
  return names.length === 0 ? null : internNames(names);
}

/** Of an address in use twice, one may terminate (E-18); that it is ready and not ready makes no sense. */
function noteContradictions(problems: ProblemList, addresses: readonly Address[]): void {
  const said = new Map<string, Address>();
  for (const address of addresses) {
    if (address.terminating) continue;
    const other = said.get(address.ip);
    if (other !== undefined && contradict(other, address))
      problems.add('endpoints', `${address.ip} is there twice, with other conditions; the last one counts`);
    said.set(address.ip, address);
  }
}

/** Whether two entries for one endpoint cannot both be true. */
export function contradict(a: EndpointConditions, b: EndpointConditions): boolean {
  return !a.terminating && !b.terminating && (a.ready !== b.ready || a.serving !== b.serving);
}

type EndpointConditions = Pick<SliceEndpoint, 'ready' | 'serving' | 'terminating'>;

function endpointsAt(addresses: readonly Address[], port: number, family: Family): readonly SliceEndpoint[] {
  const byKey = new Map<string, SliceEndpoint>();
  for (const { ip, local, ready, serving, terminating, zoneHints, nodeHints, nodeName } of addresses) {
    // join: a flat string, where a template would keep its parts alive.
    const key = family === 'IPv4' ? [ip, port].join(':') : ['[', ip, ']:', port].join('');
    if (terminating && byKey.has(key)) continue; // E-18
    byKey.set(key, { ip, port, key, local, ready, serving, terminating, zoneHints, nodeHints, nodeName });
  }
  return [...byKey.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}
