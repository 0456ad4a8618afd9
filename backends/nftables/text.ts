// The table as text, in the form `nft list table` has.
import { cidrRange, type Family, ipText, parseCidr } from '../../native/ip.ts';
import type { BaseChain, Element } from '../../native/nftables/batch.ts';
import type { Expression } from '../../native/nftables/expression.ts';
import { addressLength, fieldsText } from '../nft-table/fields.ts';
import type { Elements } from './changes.ts';
import { expressionText } from './expression-text.ts';
import type { KernelTable } from './read.ts';
import type { Rule } from './rule-parts.ts';
import {
  AFFINITY_SIZE,
  BASE_CHAINS,
  dataFields,
  keyFields,
  SET_NAMES,
  type SetName,
  TABLE,
  TABLE_COMMENT,
} from './schema.ts';

/** What text is made of, from memory or from the kernel. */
export interface TableView {
  readonly family: Family;
  readonly chains: ReadonlyMap<string, readonly string[]>;
  readonly elements: Elements;
}

const HOOK_NAMES = ['prerouting', 'input', 'forward', 'output', 'postrouting'];

function declarationText(set: SetName, family: Family): string {
  const ip = family === 'IPv4' ? 'ip' : 'ip6';
  const names = {
    daddr: `${ip} daddr`,
    saddr: `${ip} saddr`,
    proto: 'meta l4proto',
    port: 'th dport',
    index: 'numgen random mod 2',
    word: 'meta priority',
  };
  const list = (fields: readonly (keyof typeof names)[]): string => fields.map((f) => names[f]).join(' . ');
  const data = dataFields(set);
  // nft has no typeof for the data of a verdict map and falls back to type names.
  if (data === 'verdict') return 'type classid : verdict';
  return `typeof ${list(keyFields(set))}${data === null ? '' : ` : ${list(data)}`}`;
}

/** One element as nft prints it. */
export function elementText(set: SetName, element: Element, family: Family): string {
  const key = fieldsText(element.key, keyFields(set), family);
  if (element.keyEnd !== undefined) {
    // Only the last field of an interval, the source address, is a range.
    const length = addressLength(family);
    key[key.length - 1] = rangeText(element.key.slice(-length), element.keyEnd.slice(-length));
  }
  const data = dataFields(set);
  const comment = element.comment === undefined ? '' : ` comment "${element.comment}"`;
  if (data === null) return key.join(' . ') + comment;
  const value = data === 'verdict' ? `goto ${element.data}` : fieldsText(element.data ?? '', data, family).join(' . ');
  return `${key.join(' . ')}${comment} : ${value}`;
}

/** A prefix where the range is one, as nft has it. */
function rangeText(low: string, high: string): string {
  if (low === high) return ipText(low);
  for (let prefix = 0; prefix < low.length * 8; prefix++) {
    const range = cidrRange({ family: low.length === 4 ? 'IPv4' : 'IPv6', base: ipText(low), prefix, text: '' });
    if (range.high === high && parseCidr(`${ipText(low)}/${prefix}`)?.base === ipText(low))
      return `${ipText(low)}/${prefix}`;
  }
  return `${ipText(low)}-${ipText(high)}`;
}

/** Order of display: words by number, everything else bytewise. */
function sortKey(set: SetName, element: Element): string {
  return keyFields(set)[0] === 'word'
    ? [...element.key.slice(0, 4)].reverse().join('') + element.key.slice(4)
    : element.key;
}

/** Elements in one part of a text. */
const PART = 1000;

function* setParts(set: SetName, family: Family, elements: readonly Element[]): Generator<string> {
  const data = dataFields(set);
  const lines = [`\t${data === null ? 'set' : 'map'} ${set} {`, `\t\t${declarationText(set, family)}`];
  if (set === 'affinity') lines.push(`\t\tsize ${AFFINITY_SIZE}`, '\t\tflags dynamic,timeout', '\t\ttimeout 3h');
  if (set === 'source-allowed') lines.push('\t\tflags interval');
  yield `${lines.join('\n')}\n`;
  if (elements.length > 0) {
    const sorted = elements.map((element) => ({ by: sortKey(set, element), element }));
    sorted.sort((x, y) => (x.by < y.by ? -1 : 1));
    for (let at = 0; at < sorted.length; at += PART) {
      const texts = sorted.slice(at, at + PART).map(({ element }) => elementText(set, element, family));
      yield (at === 0 ? '\t\telements = { ' : ',\n\t\t\t     ') + texts.join(',\n\t\t\t     ');
    }
    yield ' }\n';
  }
  yield '\t}\n';
}

/**
 * The whole table in parts, each quickly made; `include` limits elements, and sets and chains without anything included
 * are left out then.
 */
export function* tableParts(view: TableView, include?: (set: SetName, element: Element) => boolean): Generator<string> {
  const { family } = view;
  yield `table ${family === 'IPv4' ? 'ip' : 'ip6'} ${TABLE} {\n`;
  if (!include) yield `\tcomment "${TABLE_COMMENT}"\n`;
  let gap = include ? '' : '\n';
  const used = new Set<string>();
  for (const set of SET_NAMES) {
    const all = [...(view.elements.get(set)?.values() ?? [])];
    const elements = include ? all.filter((e) => include(set, e)) : all;
    if (include && elements.length === 0) continue;
    yield gap;
    yield* setParts(set, family, elements);
    gap = '\n';
    if (include) for (const element of elements) for (const chain of chainsOf(set, element, view)) used.add(chain);
  }
  for (const [name, rules] of view.chains) {
    if (include && !used.has(name)) continue;
    const lines = [`\tchain ${name} {`];
    const base = BASE_CHAINS.get(name);
    if (base) {
      lines.push(`\t\ttype ${base.type} hook ${HOOK_NAMES[base.hook]} priority ${priorityText(base)}; policy accept;`);
    }
    lines.push(...rules.map((rule) => `\t\t${rule}`), '\t}');
    yield `${gap}${lines.join('\n')}\n`;
    gap = '\n';
  }
  yield '}\n';
}

/** nft knows `dstnat` in prerouting only. */
function priorityText({ hook, priority }: BaseChain): string {
  const names: Record<number, string> = { 0: 'filter', 100: 'srcnat' };
  if (HOOK_NAMES[hook] === 'prerouting') Object.assign(names, { [-110]: 'dstnat - 10', [-100]: 'dstnat' });
  return names[priority] ?? String(priority);
}

/** Chains that the word in an element leads to. */
function chainsOf(set: SetName, element: Element, view: TableView): string[] {
  const data = dataFields(set);
  if (data === null || data === 'verdict' || data[0] !== 'word' || element.data === undefined) return [];
  const chain = view.elements.get('actions')?.get(element.data)?.data;
  return chain === undefined ? [] : [chain];
}

/** A view of rules that are known by construction. */
export function chainTexts(chains: ReadonlyMap<string, readonly Rule[]>): Map<string, string[]> {
  return new Map([...chains].map(([name, rules]) => [name, rules.map((r) => r.text)]));
}

/** Texts of the kernel's rules: those in `known` as nft prints them, others as their expressions. */
export function kernelChainTexts(table: KernelTable, known: ReadonlyMap<string, string>): Map<string, string[]> {
  const text = (rule: readonly Expression[]): string =>
    known.get(JSON.stringify(rule)) ?? rule.map(expressionText).join(' ');
  return new Map([...table.chains.keys()].map((chain) => [chain, (table.rules.get(chain) ?? []).map(text)]));
}

/** Selects the elements of one Service: those of its frontends, and its actions. */
export function serviceFilter(
  service: string,
  elements: Elements,
  keyLength: number,
): (set: SetName, e: Element) => boolean {
  const isItsComment = (comment: string | undefined): boolean =>
    comment === service || comment?.startsWith(`${service}:`) === true;
  const frontends = new Set<string>();
  const words = new Set<string>();
  for (const set of ['services', 'nodeports', 'no-endpoints-reject', 'no-endpoints-drop'] as const) {
    for (const e of elements.get(set)?.values() ?? []) if (isItsComment(e.comment)) frontends.add(e.key);
  }
  for (const set of ['services', 'nodeports', 'short-circuit', 'local-only'] as const) {
    for (const e of elements.get(set)?.values() ?? []) if (frontends.has(e.key)) words.add(e.data!);
  }
  const addresses = new Set([...frontends].map((fe) => fe.slice(0, keyLength - 8)));
  const endpoints = new Set<string>();
  for (const set of ['endpoints', 'local-endpoints', 'affinity-endpoints', 'local-affinity-endpoints'] as const) {
    for (const e of elements.get(set)?.values() ?? [])
      if (frontends.has(e.key.slice(0, keyLength))) endpoints.add(e.data!);
  }
  return (set, e) => {
    if (set === 'actions') return words.has(e.key);
    if (set === 'local-actions' || set === 'nodeport-ips' || set === 'affinity') return false;
    if (set === 'cluster-ips') return addresses.has(e.key);
    if (set === 'hairpin') return endpoints.has(e.key.slice(0, keyLength - 8) + e.key.slice(-4));
    return frontends.has(e.key.slice(0, keyLength));
  };
}
