// The table as text, in the form `nft list table` has.
import { cidrRange, type Family, ipText, parseCidr } from '../../native/ip.ts';
import type { BaseChain, Element } from '../../native/nftables/batch.ts';
import type { Expression } from '../../native/nftables/expression.ts';
import { expressionText } from './expression-text.ts';
import { addressLength, type Field, fieldsText } from './fields.ts';
import { HOOK, type SetShape, TABLE_COMMENT, type TableLayout } from './layout.ts';
import type { ElementsOf } from './operations.ts';
import type { KernelTable } from './read.ts';
import type { Rule } from './rule-parts.ts';

/** What text is made of, from memory or from the kernel. */
export interface TableView<S extends string> {
  readonly layout: TableLayout<S>;
  readonly family: Family;
  readonly chains: ReadonlyMap<string, readonly string[]>;
  readonly elements: ElementsOf<S>;
}

/** Limits a text to some elements, and to the chains that these lead to. */
export interface Selection<S extends string> {
  includes(set: S, element: Element): boolean;
  chainsOf(set: S, element: Element): readonly string[];
}

const HOOK_NAMES = Object.keys(HOOK);

function declarationText({ key, data }: SetShape, family: Family): string {
  const ip = family === 'IPv4' ? 'ip' : 'ip6';
  const names = {
    daddr: `${ip} daddr`,
    saddr: `${ip} saddr`,
    proto: 'meta l4proto',
    port: 'th dport',
    index: 'numgen random mod 2',
    word: 'meta priority',
  };
  const list = (fields: readonly Field[]): string => fields.map((f) => names[f]).join(' . ');
  // nft has no typeof for the data of a verdict map and falls back to type names.
  if (data === 'verdict') return 'type classid : verdict';
  return `typeof ${list(key)}${data === undefined ? '' : ` : ${list(data)}`}`;
}

/** One element as nft prints it. */
export function elementText(shape: SetShape, element: Element, family: Family): string {
  const key = fieldsText(element.key, shape.key, family);
  if (element.keyEnd !== undefined) {
    // Only the last field of an interval, the source address, is a range.
    const length = addressLength(family);
    key[key.length - 1] = rangeText(element.key.slice(-length), element.keyEnd.slice(-length));
  }
  const { data } = shape;
  const comment = element.comment === undefined ? '' : ` comment "${element.comment}"`;
  if (data === undefined) return key.join(' . ') + comment;
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
function sortKey(shape: SetShape, { key }: Element): string {
  return shape.key[0] === 'word' ? [...key.slice(0, 4)].reverse().join('') + key.slice(4) : key;
}

/** Elements in one part of a text. */
const PART = 1000;

function* setParts(name: string, shape: SetShape, family: Family, elements: readonly Element[]): Generator<string> {
  const lines = [`\t${shape.data === undefined ? 'set' : 'map'} ${name} {`, `\t\t${declarationText(shape, family)}`];
  if (shape.memory) {
    lines.push(`\t\tsize ${shape.memory.size}`, '\t\tflags dynamic,timeout');
    lines.push(`\t\ttimeout ${timeText(shape.memory.timeoutMs / 1000)}`);
  }
  if (shape.ranges) lines.push('\t\tflags interval');
  yield `${lines.join('\n')}\n`;
  if (elements.length > 0) {
    const sorted = elements.map((element) => ({ by: sortKey(shape, element), element }));
    sorted.sort((x, y) => (x.by < y.by ? -1 : 1));
    for (let at = 0; at < sorted.length; at += PART) {
      const texts = sorted.slice(at, at + PART).map(({ element }) => elementText(shape, element, family));
      yield (at === 0 ? '\t\telements = { ' : ',\n\t\t\t     ') + texts.join(',\n\t\t\t     ');
    }
    yield ' }\n';
  }
  yield '\t}\n';
}

/** The whole table in parts, each quickly made; or a selection, without the sets and chains it has nothing of. */
export function* tableParts<S extends string>(view: TableView<S>, selection?: Selection<S>): Generator<string> {
  const { layout, family } = view;
  yield `table ${family === 'IPv4' ? 'ip' : 'ip6'} ${layout.name} {\n`;
  if (!selection) yield `\tcomment "${TABLE_COMMENT}"\n`;
  let gap = selection ? '' : '\n';
  const used = new Set<string>();
  for (const set of layout.setNames) {
    const all = [...(view.elements.get(set)?.values() ?? [])];
    const elements = selection ? all.filter((e) => selection.includes(set, e)) : all;
    if (selection && elements.length === 0) continue;
    yield gap;
    yield* setParts(set, layout.shapes[set], family, elements);
    gap = '\n';
    for (const element of elements) for (const chain of selection?.chainsOf(set, element) ?? []) used.add(chain);
  }
  for (const [name, rules] of view.chains) {
    if (selection && !used.has(name)) continue;
    const lines = [`\tchain ${name} {`];
    const base = layout.baseChains.get(name);
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

/** A view of rules that are known by construction. */
export function chainTexts(chains: ReadonlyMap<string, readonly Rule[]>): Map<string, string[]> {
  return new Map([...chains].map(([name, rules]) => [name, rules.map((r) => r.text)]));
}

/** Texts of the kernel's rules: those in `known` as nft prints them, others as their expressions. */
export function kernelChainTexts(
  table: KernelTable<string>,
  known: ReadonlyMap<string, string>,
): Map<string, string[]> {
  const text = (rule: readonly Expression[]): string =>
    known.get(JSON.stringify(rule)) ?? rule.map(expressionText).join(' ');
  return new Map([...table.chains.keys()].map((chain) => [chain, (table.rules.get(chain) ?? []).map(text)]));
}

/** Seconds as nft prints a time: `3h`, `1m40s`. */
export function timeText(seconds: number): string {
  const units: [string, number][] = [
    ['d', 86_400],
    ['h', 3_600],
    ['m', 60],
    ['s', 1],
  ];
  let rest = seconds;
  let out = '';
  for (const [unit, size] of units) {
    if (rest >= size) out += `${Math.floor(rest / size)}${unit}`;
    rest %= size;
  }
  return out;
}
