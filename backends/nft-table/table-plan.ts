// What a table shall hold, and the steps from what the kernel holds to that. Pure.
import type { Family } from '../../native/ip.ts';
import { MessageWriter } from '../../native/netlink/message.ts';
import type { Batch, Element, SetDeclaration } from '../../native/nftables/batch.ts';
import { type Expression, writeExpression } from '../../native/nftables/expression.ts';
import { TABLE_USERDATA, type TableLayout } from './layout.ts';
import { diffSet, type ElementsOf, emptyOperations, type OperationsOf } from './operations.ts';
import type { KernelTable } from './read.ts';
import type { Rule } from './rule-parts.ts';

/** A family's table as it shall be. */
export interface DesiredTable<S extends string> {
  readonly layout: TableLayout<S>;
  readonly family: Family;
  /** Chains with their rules, in the order in which they are to be created. */
  readonly chains: ReadonlyMap<string, readonly Rule[]>;
  readonly elements: ElementsOf<S>;
}

/** Operations on the elements of a table. */
export interface ElementSteps<S extends string> {
  readonly layout: TableLayout<S>;
  readonly family: Family;
  readonly elements: OperationsOf<S>;
}

/** Operations on chains and sets, and on elements, in the order they are to be sent. */
export interface TableSteps<S extends string> extends ElementSteps<S> {
  readonly replaceTable: 'none' | 'create' | 'recreate';
  readonly newSets: readonly SetDeclaration[];
  readonly newChains: readonly string[];
  readonly flushChains: readonly string[];
  readonly newRules: readonly (readonly [string, readonly Rule[]])[];
  readonly oldChains: readonly string[];
  readonly oldSets: readonly string[];
}

const baseText = (layout: TableLayout<string>, name: string): string => {
  const base = layout.baseChains.get(name);
  return base ? `${base.type}:${base.hook}:${base.priority}` : '';
};

const scratch = new MessageWriter();

/** An encoding of rules that is equal for equal rules, whoever made them. */
function fingerprint(rules: readonly (readonly Expression[])[]): string {
  scratch.reset();
  for (const rule of rules) {
    scratch.raw('rule');
    for (const expression of rule) writeExpression(scratch, expression);
  }
  return scratch.bytes().toString('latin1');
}

/** A desired table as if the kernel held it already: what changes of settings are compared with. */
export function asKernelTable<S extends string>(table: DesiredTable<S>): KernelTable<S> {
  const { layout } = table;
  return {
    damaged: null,
    chains: new Map([...table.chains.keys()].map((name) => [name, baseText(layout, name)])),
    rules: new Map([...table.chains].map(([name, rules]) => [name, rules.map((r) => r.expressions)])),
    sets: new Set(layout.setNames),
    elements: table.elements,
  };
}

/** The steps from `kernel` (null: there is no table) to `desired`. */
export function planTable<S extends string>(kernel: KernelTable<S> | null, desired: DesiredTable<S>): TableSteps<S> {
  const { layout, family } = desired;
  const declarations = layout.sets[family];
  const moved =
    kernel &&
    [...desired.chains.keys()].some((c) => kernel.chains.has(c) && kernel.chains.get(c) !== baseText(layout, c));
  const fresh = kernel === null || kernel.damaged !== null || moved === true;
  const have = fresh ? null : kernel;
  const newChains: string[] = [];
  const flushChains: string[] = [];
  const newRules: [string, readonly Rule[]][] = [];
  for (const [name, rules] of desired.chains) {
    if (!have?.chains.has(name)) {
      newChains.push(name);
      newRules.push([name, rules]);
      continue;
    }
    const existing = have.rules.get(name) ?? [];
    if (fingerprint(existing) === fingerprint(rules.map((r) => r.expressions))) continue;
    flushChains.push(name);
    newRules.push([name, rules]);
  }
  const oldChains = [...(have?.chains.keys() ?? [])].filter((c) => !desired.chains.has(c));
  const oldSets = [...(have?.sets ?? [])].filter((s) => !(s in declarations));
  const elements = emptyOperations<S>();
  for (const set of layout.setNames) {
    const none: ReadonlyMap<string, Element> = new Map();
    const diff = diffSet(have?.elements.get(set) ?? none, desired.elements.get(set) ?? none);
    if (diff.deletions.length > 0) elements.deletions.set(set, diff.deletions);
    if (diff.additions.length > 0) elements.additions.set(set, diff.additions);
  }
  return {
    layout,
    family,
    replaceTable: have ? 'none' : kernel === null ? 'create' : 'recreate',
    newSets: layout.setNames.filter((s) => !have?.sets.has(s)).map((s) => declarations[s]),
    newChains,
    flushChains: [...flushChains, ...oldChains],
    newRules,
    oldChains,
    oldSets,
    elements,
  };
}

/** True when there is nothing to do. */
export function noSteps(steps: TableSteps<string>): boolean {
  return steps.replaceTable === 'none' && !hasStructure(steps) && !hasElements(steps.elements);
}

export function hasStructure(steps: TableSteps<string>): boolean {
  return (
    steps.newSets.length + steps.newChains.length + steps.flushChains.length + steps.newRules.length > 0 ||
    steps.oldChains.length + steps.oldSets.length > 0
  );
}

export function hasElements(operations: OperationsOf<string>): boolean {
  return operations.deletions.size > 0 || operations.additions.size > 0;
}

/** Writes table, sets, chains and rules. Old chains and sets go in writeRemovals, once nothing refers to them. */
export function writeStructure(batch: Batch, steps: TableSteps<string>): void {
  const { layout, family } = steps;
  if (steps.replaceTable === 'recreate') batch.deleteTable(family);
  if (steps.replaceTable !== 'none') batch.addTable(family, TABLE_USERDATA);
  for (const set of steps.newSets) batch.addSet(family, set);
  for (const chain of steps.newChains) batch.addChain(family, chain, layout.baseChains.get(chain));
  for (const chain of steps.flushChains) batch.flushChain(family, chain);
  for (const [chain, rules] of steps.newRules) {
    for (const rule of rules) batch.addRule(family, chain, rule.expressions);
  }
}

export function writeElements<S extends string>(batch: Batch, steps: ElementSteps<S>): void {
  const { family, elements } = steps;
  const sets = steps.layout.sets[family];
  for (const [set, list] of elements.deletions) batch.deleteElements(family, sets[set], list);
  for (const [set, list] of elements.additions) batch.addElements(family, sets[set], list);
}

/** Elements written between two turns of the event loop. */
const TURN_ELEMENTS = 10_000;

/** The same, giving the event loop turns; nothing else may write to the batch meanwhile. */
export async function writeElementsInTurns<S extends string>(batch: Batch, steps: ElementSteps<S>): Promise<void> {
  const { family, elements } = steps;
  const sets = steps.layout.sets[family];
  const parts = async (list: readonly Element[], write: (part: readonly Element[]) => void): Promise<void> => {
    for (let at = 0; at < list.length; at += TURN_ELEMENTS) {
      if (at > 0) await new Promise<void>((resolve) => setImmediate(resolve));
      write(list.slice(at, at + TURN_ELEMENTS));
    }
  };
  for (const [set, list] of elements.deletions) {
    await parts(list, (part) => batch.deleteElements(family, sets[set], part));
  }
  for (const [set, list] of elements.additions) {
    await parts(list, (part) => batch.addElements(family, sets[set], part));
  }
}

export function writeRemovals(batch: Batch, steps: TableSteps<string>): void {
  // A foreign verdict map may lead to a foreign chain.
  for (const set of steps.oldSets) batch.deleteSet(steps.family, set);
  for (const chain of steps.oldChains) batch.deleteChain(steps.family, chain);
}

/** In words, for the log. */
export function describeSteps<S extends string>(steps: TableSteps<S>): string {
  if (steps.replaceTable !== 'none')
    return `${steps.family} table ${steps.replaceTable === 'create' ? 'missing' : 'damaged'}`;
  const parts = [
    ...steps.newSets.map((s) => `set ${s.name} missing`),
    ...steps.newChains.map((c) => `chain ${c} missing`),
    ...steps.flushChains.map((c) => `rules of chain ${c} changed`),
  ];
  for (const set of steps.layout.setNames) {
    const wrong = steps.elements.deletions.get(set)?.length ?? 0;
    const missing = steps.elements.additions.get(set)?.length ?? 0;
    if (wrong + missing > 0) parts.push(`${set}: ${missing} elements missing, ${wrong} not ours`);
  }
  const MOST = 8;
  const more = parts.length > MOST ? `, and ${parts.length - MOST} more` : '';
  return `${steps.family} ${parts.slice(0, MOST).join(', ')}${more}`;
}
