// Readers of single fields of untrusted JSON: each takes what is usable and adds a Problem for what is not.
// null and a missing field are the same everywhere, as in the API.
import { canonicalIP, type Family, familyOf } from '../../native/ip.ts';
import { objectLabel, type Parsed, ProblemList, show } from './problem.ts';

export type Json = Readonly<Record<string, unknown>>;

/** The value as an object, or null when it is none. */
export function asObject(value: unknown): Json | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : null;
}

/** A nested object; missing or null gives an empty one, anything else too, with a Problem. */
export function readObject(problems: ProblemList, value: unknown, field: string): Json {
  if (value === undefined || value === null) return {};
  const object = asObject(value);
  if (object === null) problems.add(field, `is ${show(value)} instead of an object`);
  return object ?? {};
}

export function readList(problems: ProblemList, value: unknown, field: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value;
  problems.add(field, `is ${show(value)} instead of a list`);
  return [];
}

/** A string; null when missing or, with a Problem, when it is something else. */
export function readText(problems: ProblemList, value: unknown, field: string): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value === 'string') return value;
  problems.add(field, `is ${show(value)} instead of a string`);
  return null;
}

/** One of `choices`; the fallback when missing, '' or, with a Problem, when it is something else. */
export function readChoice<T extends string>(
  problems: ProblemList,
  value: unknown,
  field: string,
  choices: readonly T[],
  fallback: T,
): T {
  if (value === undefined || value === null || value === '') return fallback;
  if (choices.includes(value as T)) return value as T;
  problems.add(field, `is ${show(value)}, treated as ${fallback}`);
  return fallback;
}

export function isPort(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 65535;
}

/** An optional port number: 0 when missing, 0 or, with a Problem, unusable. */
export function readOptionalPort(problems: ProblemList, value: unknown, field: string): number {
  if (value === undefined || value === null || value === 0) return 0;
  if (isPort(value)) return value;
  problems.add(field, `is ${show(value)} instead of a port number`);
  return 0;
}

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** At most 63 characters, lower case, digits and '-' inside. */
export function isDnsLabel(text: string): boolean {
  return text.length <= 63 && LABEL.test(text);
}

/** At most 253 characters: labels joined by dots. */
export function isDnsSubdomain(text: string): boolean {
  return text.length <= 253 && SUBDOMAIN.test(text);
}

const CANONICAL_V4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/;

/** Canonical text of an address of any family, or null. Keeps the given string when it is canonical IPv4 already. */
export function readIP(value: unknown): string | null {
  if (typeof value !== 'string') return null;
  return CANONICAL_V4.test(value) ? value : canonicalIP(value);
}

/** Why an address cannot be a destination at all, or null. `ip` is canonical. */
export function unusableIP(ip: string): 'loopback' | 'multicast' | 'unspecified' | 'the broadcast address' | null {
  if (familyOf(ip) === 'IPv6') {
    if (ip === '::1') return 'loopback';
    if (ip === '::') return 'unspecified';
    return /^ff..:/.test(ip) ? 'multicast' : null;
  }
  if (ip === '0.0.0.0') return 'unspecified';
  if (ip === '255.255.255.255') return 'the broadcast address';
  const first = Number.parseInt(ip, 10);
  if (first === 127) return 'loopback';
  return first >= 224 && first <= 239 ? 'multicast' : null;
}

/** 169.254.0.0/16 or fe80::/10. `ip` is canonical. */
export function isLinkLocal(ip: string): boolean {
  return familyOf(ip) === 'IPv6' ? /^fe[89ab].:/.test(ip) : ip.startsWith('169.254.');
}

export function isLoopback(ip: string): boolean {
  return unusableIP(ip) === 'loopback';
}

export type PerFamily<T> = Readonly<Record<Family, T>>;

/**
 * Parses the part all objects share and hands over to `read`, which returns null for an object that is not selected or
 * unusable. An object without sane names is dropped with a Problem.
 */
export function parseObject<T>(
  kind: string,
  raw: unknown,
  validName: (name: string) => boolean,
  read: (object: Json, metadata: Json, problems: ProblemList) => T | null,
): Parsed<T> {
  const object = asObject(raw);
  const metadata = asObject(object?.metadata) ?? {};
  const text = (value: unknown) => (typeof value === 'string' ? value : '');
  const namespace = text(metadata.namespace);
  const name = text(metadata.name);
  const problems = new ProblemList(objectLabel(kind, namespace, name));
  const namespaced = kind === 'Service' || kind === 'EndpointSlice';
  let parsed: T | null = null;
  if (object === null) problems.add('', `is ${show(raw)} instead of an object`);
  else if (!validName(name)) problems.add('metadata.name', `${show(metadata.name)} is no valid name`);
  else if (namespaced && !isDnsLabel(namespace))
    problems.add('metadata.namespace', `${show(metadata.namespace)} is no valid name`);
  else {
    readObject(problems, metadata.labels, 'metadata.labels');
    parsed = read(object, metadata, problems);
  }
  return { namespace, name, object: parsed, problems: problems.list() };
}
