// Text for people: aligned columns, ages, numbers, and colours where they are wanted.
import { stripVTControlCharacters, styleText } from 'node:util';

type Format = 'bold' | 'dim' | 'red' | 'green' | 'yellow';

/** Gives a text a look, or leaves it as it is. */
export type Style = (format: Format, text: string) => string;

export const plainStyle: Style = (_, text) => text;

/** Colours on a terminal only, and not when NO_COLOR is set. */
export function styleFor(stream: { isTTY?: boolean }, env: Readonly<Record<string, string | undefined>>): Style {
  if (stream.isTTY !== true || (env.NO_COLOR ?? '') !== '') return plainStyle;
  return (format, text) => styleText(format, text, { validateStream: false });
}

/** Names and messages from objects, without what a terminal would obey. */
export function printable(text: string): string {
  return text.replace(/\p{C}/gu, '?');
}

const width = (text: string): number => stripVTControlCharacters(text).length;

/** Rows as lines, columns as wide as their longest cell; the last column is not padded. */
export function columns(rows: readonly (readonly string[])[], indent = '  '): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, width(cell));
  }
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === row.length - 1 ? cell : cell + ' '.repeat(widths[i]! - width(cell)))).join('  ');
  return rows.map((row) => `${indent}${line(row).trimEnd()}\n`).join('');
}

const UNITS = [
  { name: 'd', seconds: 86_400 },
  { name: 'h', seconds: 3600 },
  { name: 'm', seconds: 60 },
  { name: 's', seconds: 1 },
];

/** `12s`, `3m 5s`, `2h 4m`, `5d 3h`: the two largest units. */
export function duration(ms: number): string {
  let seconds = Math.max(0, Math.floor(ms / 1000));
  const parts: string[] = [];
  for (const unit of UNITS) {
    const count = Math.floor(seconds / unit.seconds);
    seconds -= count * unit.seconds;
    if (parts.length > 0 || count > 0) parts.push(count > 0 ? `${count}${unit.name}` : '');
    if (parts.length === 2) break;
  }
  return parts.filter((part) => part !== '').join(' ') || '0s';
}

/** How long ago, as of `nowMs`; `never` for null. */
export function ago(atMs: number | null, nowMs: number): string {
  return atMs === null ? 'never' : `${duration(nowMs - atMs)} ago`;
}

/** `0.8 ms`, `21 ms`, `1.4 s`. */
export function took(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

export const count = (value: number): string => value.toLocaleString('en-US');

/** `1 endpoint`, `1,204 endpoints`. */
export const counted = (value: number, noun: string): string => `${count(value)} ${noun}${value === 1 ? '' : 's'}`;

/** `512 B`, `4.2 MiB`. */
export function size(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const kib = bytes / 1024;
  return kib < 1024 ? `${kib.toFixed(1)} KiB` : `${(kib / 1024).toFixed(1)} MiB`;
}

/** `33.3 %`. */
export function percent(value: number): string {
  return value < 0.1 ? '<0.1 %' : `${Math.round(value * 10) / 10} %`;
}
