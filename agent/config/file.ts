// Reads a KubeProxyConfiguration v1alpha1 from YAML or JSON (P-25): unknown and duplicate fields are warned about by
// name, wrong types are errors that name the field; all of them are reported together.
import { isMap, isScalar, type ParsedNode, parseAllDocuments } from 'yaml';
import { parseDuration } from './duration.ts';
import { type FieldType, SCHEMA, type Section } from './schema.ts';
import { ConfigError, type FileFields } from './types.ts';

export const API_VERSION = 'kubeproxy.config.k8s.io/v1alpha1';
export const KIND = 'KubeProxyConfiguration';

export interface DecodedFile {
  fields: FileFields;
  warnings: string[];
}

/** Decodes the text of a configuration file; `path` is for messages. Throws ConfigError. */
export function decodeFile(text: string, path: string): DecodedFile {
  const warnings: string[] = [];
  const value = parseText(text, path, warnings);
  if (!isObject(value)) throw new ConfigError([`${path}: is no ${KIND}`]);
  return decode(value, path, warnings);
}

function decode(value: Record<string, unknown>, path: string, warnings: string[]): DecodedFile {
  const { kind, apiVersion, ...fields } = value;
  if (kind !== KIND || apiVersion !== API_VERSION) {
    const found = `kind ${describe(kind)}, apiVersion ${describe(apiVersion)}`;
    throw new ConfigError([`${path}: ${found}; must be kind "${KIND}", apiVersion "${API_VERSION}"`]);
  }
  const problems: string[] = [];
  const decoded = decodeSection(fields, SCHEMA as Section, '', { problems, warnings });
  if (problems.length > 0) throw new ConfigError(problems.map((p) => `${path}: ${p}`));
  return { fields: decoded as FileFields, warnings: warnings.map((w) => `${path}: ${w}`) };
}

function parseText(text: string, path: string, warnings: string[]): unknown {
  // YAML 1.1 as Kubernetes reads it: `yes` and `on` are booleans.
  const documents = parseAllDocuments(text, { version: '1.1', uniqueKeys: false, prettyErrors: true });
  if (!Array.isArray(documents) || documents[0] === undefined) throw new ConfigError([`${path}: is empty`]);
  const [document, ...more] = documents;
  if (document.errors.length > 0) {
    const message = document.errors[0]!.message.split('\n')[0]!.replace(/:$/, '');
    try {
      return JSON.parse(text); // JSON that is no YAML: tabs as indentation
    } catch {
      throw new ConfigError([`${path}: ${message}`], { cause: document.errors[0] });
    }
  }
  if (more.length > 0) warnings.push('only the first YAML document of the file is used');
  findDuplicates(document.contents, '', warnings);
  return document.toJS();
}

function findDuplicates(node: ParsedNode | null, path: string, warnings: string[]): void {
  if (!isMap(node)) return;
  const seen = new Set<string>();
  for (const pair of node.items) {
    const name = isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
    const field = join(path, name);
    if (seen.has(name)) warnings.push(`field ${field} is given more than once; the last one is used`);
    seen.add(name);
    findDuplicates(pair.value as ParsedNode | null, field, warnings);
  }
}

interface Found {
  problems: string[];
  warnings: string[];
}

function decodeSection(value: Record<string, unknown>, section: Section, path: string, found: Found) {
  const out: Record<string, unknown> = {};
  for (const [name, given] of Object.entries(value)) {
    const field = join(path, name);
    const type = Object.hasOwn(section, name) ? section[name]! : undefined;
    if (type === undefined) {
      found.warnings.push(`unknown field ${field} is ignored`);
    } else if (given === null || given === undefined) {
      // As if absent.
    } else if (typeof type === 'object' && 'section' in type) {
      if (isObject(given)) out[name] = decodeSection(given, type.section, field, found);
      else found.problems.push(`${field}: ${describe(given)} must be an object`);
    } else {
      const decoded = decodeField(given, type, field, found);
      if (decoded !== undefined) out[name] = decoded;
    }
  }
  return out;
}

function decodeField(value: unknown, type: FieldType, field: string, found: Found): unknown {
  const refuse = (wanted: string) => {
    found.problems.push(`${field}: ${describe(value)} must be ${wanted}`);
    return undefined;
  };
  if (typeof type === 'object') {
    if (!Array.isArray(value)) return refuse('a list of objects');
    return value.flatMap((item: unknown, i) => {
      if (isObject(item)) return [decodeSection(item, type.items, `${field}[${i}]`, found)];
      found.problems.push(`${field}[${i}]: ${describe(item)} must be an object`);
      return [];
    });
  }
  switch (type) {
    case 'string':
      return typeof value === 'string' ? value : refuse('a string');
    case 'boolean':
      return typeof value === 'boolean' ? value : refuse('true or false');
    case 'float':
      return typeof value === 'number' && Number.isFinite(value) ? value : refuse('a number');
    case 'int32':
      return isInteger(value, -(2 ** 31), 2 ** 31 - 1) ? value : refuse('a whole number of 32 bits');
    case 'uint32':
      return isInteger(value, 0, 2 ** 32 - 1) ? value : refuse('a whole number that is not negative');
    case 'durationOrNumber':
      if (typeof value === 'number') return value / 1e6;
      return (typeof value === 'string' ? parseDuration(value) : null) ?? refuse('a duration such as "5s"');
    case 'duration':
      return (typeof value === 'string' ? parseDuration(value) : null) ?? refuse('a duration such as "30s"');
    case 'quantity':
      return isQuantity(value) ? String(value) : refuse('a quantity such as "64Ki"');
    case 'strings':
      return Array.isArray(value) && value.every((item) => typeof item === 'string')
        ? value
        : refuse('a list of strings');
    case 'booleans':
      return isObject(value) && Object.values(value).every((item) => typeof item === 'boolean')
        ? value
        : refuse('a map of names to true or false');
  }
}

export function isQuantity(value: unknown): boolean {
  return /^[+-]?(\d+\.?\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?$/.test(String(value));
}

function isInteger(value: unknown, min: number, max: number): boolean {
  return Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function describe(value: unknown): string {
  if (value === undefined) return 'missing';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function join(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}
