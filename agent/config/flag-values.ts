// How each type of flag value is read. A parser returns the value, or throws a text saying what is allowed.
import { ipBytes } from '../../native/ip.ts';
import { parseDuration } from './duration.ts';
import { isQuantity } from './file.ts';
import type { VModule } from './types.ts';

export interface FlagValues {
  string: string;
  boolean: boolean;
  int: number;
  uint: number;
  float: number;
  duration: number;
  /** Comma-separated; repeated flags add up. */
  strings: string[];
  /** One value per occurrence, commas and all. */
  paths: string[];
  urls: string[];
  gates: Record<string, boolean>;
  vmodule: VModule[];
  quantity: string;
  /** '' leaves the default in force (P-31). */
  ip: string;
  ipPort: string;
  version: boolean | 'raw';
}

export type FlagType = keyof FlagValues;

const TRUE = ['1', 't', 'T', 'TRUE', 'true', 'True'];
const FALSE = ['0', 'f', 'F', 'FALSE', 'false', 'False'];

function boolean(text: string): boolean {
  if (TRUE.includes(text)) return true;
  if (FALSE.includes(text)) return false;
  throw 'must be true or false';
}

function whole(text: string, min: number, max: number, wanted: string): number {
  const value = /^[+-]?(\d+|0[xX][0-9a-fA-F]+)$/.test(text) ? Number(text.replace(/^\+/, '')) : Number.NaN;
  if (!(value >= min && value <= max)) throw wanted;
  return value;
}

function pairs(text: string): [string, string][] {
  return text
    .split(',')
    .filter((part) => part.trim() !== '')
    .map((part) => {
      const at = part.indexOf('=');
      if (at < 1) throw `must be NAME=VALUE pairs, "${part}" is none`;
      return [part.slice(0, at).trim(), part.slice(at + 1).trim()];
    });
}

function ipPort(text: string): string {
  const host = /^\[(.*)\]:\d+$/.exec(text)?.[1] ?? /^([^:]*):\d+$/.exec(text)?.[1] ?? text;
  if (text !== '' && ipBytes(host) === null) throw 'must be an IP or IP:port';
  return text;
}

type Parsers = { readonly [T in FlagType]: (text: string) => FlagValues[T] };

export const PARSERS: Parsers = {
  string: (text) => text,
  boolean,
  int: (text) => whole(text, -(2 ** 31), 2 ** 31 - 1, 'must be a whole number of 32 bits'),
  uint: (text) => whole(text, 0, 2 ** 31 - 1, 'must be a whole number that is not negative'),
  float: (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (!Number.isFinite(value)) throw 'must be a number';
    return value;
  },
  duration: (text) => {
    const value = parseDuration(text);
    if (value === null) throw 'must be a duration such as 30s, 5m or 1h30m';
    return value;
  },
  strings: (text) => (text === '' ? [] : text.split(',')),
  paths: (text) => {
    if (text === '') throw 'must be a file or folder';
    return [text];
  },
  urls: (text) => {
    // A bare host:port means plain http, as with --master.
    const url = URL.parse(/^[a-z]+:\//i.test(text) ? text : `http://${text}`);
    if (url === null || !['http:', 'https:'].includes(url.protocol)) throw 'must be an http or https URL';
    return [text];
  },
  gates: (text) => Object.fromEntries(pairs(text).map(([name, value]) => [name, boolean(value)])),
  vmodule: (text) =>
    pairs(text).map(([filePattern, value]) => ({
      filePattern,
      verbosity: whole(value, 0, 2 ** 31 - 1, 'must be PATTERN=N pairs, N a whole number'),
    })),
  quantity: (text) => {
    if (!isQuantity(text)) throw 'must be a quantity such as 64Ki';
    return text;
  },
  ip: (text) => {
    if (text !== '' && ipBytes(text) === null) throw 'must be an IP address';
    return text;
  },
  ipPort,
  version: (text) => (text === 'raw' ? 'raw' : boolean(text)),
};

/** The value of a flag given once or several times: lists and maps add up, otherwise the last one counts. */
export function combine(values: readonly FlagValues[FlagType][]): FlagValues[FlagType] {
  const last = values[values.length - 1]!;
  if (Array.isArray(last)) return values.flat() as FlagValues[FlagType];
  return typeof last === 'object' ? Object.assign({}, ...values) : last;
}
