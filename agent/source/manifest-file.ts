// Reads the text of one manifest file into the objects the agent looks at. Pure.
import { LineCounter, parseAllDocuments } from 'yaml';
import { describeError } from '../log.ts';
import { API_VERSIONS, identify, isRecord } from './selection.ts';
import { KINDS, type Kind } from './source.ts';

export interface ManifestObject {
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
  readonly object: Record<string, unknown>;
}

export interface ManifestContent {
  readonly objects: readonly ManifestObject[];
  /** Each names document (counted from 1) and line. */
  readonly errors: readonly string[];
}

const NAMESPACED: ReadonlySet<Kind> = new Set(['Service', 'EndpointSlice']);

/** One document with the line it begins at. */
interface Document {
  readonly where: string;
  readonly value: unknown;
}

/** Takes one or more YAML documents, or JSON. Other kinds of objects are passed over; broken documents become errors. */
export function parseManifest(text: string): ManifestContent {
  const objects: ManifestObject[] = [];
  const errors: string[] = [];
  for (const { where, value } of documents(text, errors)) {
    if (value !== null && value !== undefined) collect(value, where, '', objects, errors);
  }
  return { objects, errors };
}

function* documents(text: string, errors: string[]): Generator<Document> {
  // JSON is YAML, too, but a hundred times faster to read as JSON.
  if (/^\s*\{/.test(text)) {
    const json = tryJson(text);
    if (json !== undefined) {
      yield { where: 'document 1, line 1', value: json };
      return;
    }
  }
  const lines = new LineCounter();
  for (const [index, document] of parseAllDocuments(text, { lineCounter: lines, prettyErrors: false }).entries()) {
    const at = (offset: number) => `document ${index + 1}, line ${lines.linePos(offset).line}`;
    const [error] = document.errors;
    if (error !== undefined) {
      errors.push(`${at(error.pos[0])}: ${error.message}`);
      continue;
    }
    const where = at(document.contents?.range?.[0] ?? document.range[0]);
    try {
      yield { where, value: document.toJS() };
    } catch (err) {
      errors.push(`${where}: ${describeError(err)}`);
    }
  }
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Adds the object, or the items if it is a List of any kind. */
function collect(value: unknown, where: string, listKind: string, objects: ManifestObject[], errors: string[]): void {
  if (!isRecord(value)) {
    errors.push(`${where}: not an object`);
    return;
  }
  const kind = value.kind ?? listKind;
  if (typeof kind !== 'string' || kind === '') {
    errors.push(`${where}: kind is missing`);
    return;
  }
  if (kind.endsWith('List') && Array.isArray(value.items)) {
    const itemKind = kind.slice(0, -'List'.length);
    for (const [i, item] of value.items.entries()) collect(item, `${where}, items[${i}]`, itemKind, objects, errors);
    return;
  }
  const known = KINDS.find((k) => k === kind);
  if (known === undefined) return;
  // Other API groups have Services, too.
  if (value.apiVersion !== undefined && value.apiVersion !== API_VERSIONS[known]) return;
  const identity = identify(value);
  if (identity === null) {
    errors.push(`${where}: ${kind} without metadata.name`);
    return;
  }
  const namespace = NAMESPACED.has(known) ? identity.namespace || 'default' : '';
  const metadata = { ...(value.metadata as object), ...(namespace !== '' && { namespace }) };
  objects.push({ kind: known, namespace, name: identity.name, object: { ...value, kind, metadata } });
}
