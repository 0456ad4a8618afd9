// What a table shall hold, and the steps from what the kernel holds to that. Pure.
import type { Family } from '../../native/ip.ts';
import { MessageWriter } from '../../native/netlink/message.ts';
import type { Batch, Element, SetDeclaration } from '../../native/nftables/batch.ts';
import { type Expression, writeExpression } from '../../native/nftables/expression.ts';
import type { NodeSettings } from '../service-plan.ts';
import { actionChain } from './action-chains.ts';
import { type Action, chainName, parseChainName } from './actions.ts';
import { diffSet, type Elements, emptyOperations, type Operations } from './changes.ts';
import type { KernelTable } from './read.ts';
import type { Rule } from './rule-parts.ts';
import { BASE_CHAINS, SET_NAMES, SETS, type SetName, TABLE_USERDATA } from './schema.ts';

/** A family's table as it shall be. */
export interface DesiredTable {
  readonly family: Family;
  /** Chains with their rules, in the order in which they are to be created. */
  readonly chains: ReadonlyMap<string, readonly Rule[]>;
  readonly elements: Elements;
}

/** Operations on chains and sets, and on elements, in the order they are to be sent. */
export interface TableSteps {
  readonly family: Family;
  readonly replaceTable: 'none' | 'create' | 'recreate';
  readonly newSets: readonly SetDeclaration[];
  readonly newChains: readonly string[];
  readonly flushChains: readonly string[];
  readonly newRules: readonly (readonly [string, readonly Rule[]])[];
  readonly oldChains: readonly string[];
  readonly oldSets: readonly string[];
  readonly elements: Operations;
}

const baseText = (name: string): string => {
  const base = BASE_CHAINS.get(name);
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
export function asKernelTable(table: DesiredTable): KernelTable {
  return {
    damaged: null,
    chains: new Map([...table.chains.keys()].map((name) => [name, baseText(name)])),
    rules: new Map([...table.chains].map(([name, rules]) => [name, rules.map((r) => r.expressions)])),
    sets: new Set(SET_NAMES),
    elements: table.elements,
  };
}

/** The steps from `kernel` (null: there is no table) to `desired`. */
export function planTable(kernel: KernelTable | null, desired: DesiredTable): TableSteps {
  const { family } = desired;
  const declarations = SETS[family];
  const moved =
    kernel && [...desired.chains.keys()].some((c) => kernel.chains.has(c) && kernel.chains.get(c) !== baseText(c));
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
  const elements = emptyOperations();
  for (const set of SET_NAMES) {
    const none: ReadonlyMap<string, Element> = new Map();
    const diff = diffSet(have?.elements.get(set) ?? none, desired.elements.get(set) ?? none);
    if (diff.deletions.length > 0) elements.deletions.set(set, diff.deletions);
    if (diff.additions.length > 0) elements.additions.set(set, diff.additions);
  }
  return {
    family,
    replaceTable: have ? 'none' : kernel === null ? 'create' : 'recreate',
    newSets: SET_NAMES.filter((s) => !have?.sets.has(s)).map((s) => declarations[s]),
    newChains,
    flushChains: [...flushChains, ...oldChains],
    newRules,
    oldChains,
    oldSets,
    elements,
  };
}

/** Steps that create chains which do not exist yet, before any word leads to them. */
export function newActionSteps(
  family: Family,
  settings: NodeSettings,
  actions: readonly Action[],
  elements: readonly Element[],
): TableSteps {
  const additions: Operations['additions'] = new Map();
  if (elements.length > 0) {
    additions.set('actions', [...elements]);
    additions.set('local-actions', [...elements]);
  }
  return {
    family,
    replaceTable: 'none',
    newSets: [],
    newChains: actions.map(chainName),
    flushChains: [],
    newRules: actions.map((action) => [chainName(action), actionChain(family, settings, action)]),
    oldChains: [],
    oldSets: [],
    elements: { deletions: new Map(), additions },
  };
}

/** True when there is nothing to do. */
export function noSteps(steps: TableSteps): boolean {
  return steps.replaceTable === 'none' && !hasStructure(steps) && !hasElements(steps.elements);
}

export function hasStructure(steps: TableSteps): boolean {
  return (
    steps.newSets.length + steps.newChains.length + steps.flushChains.length + steps.newRules.length > 0 ||
    steps.oldChains.length + steps.oldSets.length > 0
  );
}

export function hasElements(operations: Operations): boolean {
  return operations.deletions.size > 0 || operations.additions.size > 0;
}

/** Writes table, sets, chains and rules. Old chains and sets go in writeRemovals, once nothing refers to them. */
export function writeStructure(batch: Batch, steps: TableSteps): void {
  const { family } = steps;
  if (steps.replaceTable === 'recreate') batch.deleteTable(family);
  if (steps.replaceTable !== 'none') batch.addTable(family, TABLE_USERDATA);
  for (const set of steps.newSets) batch.addSet(family, set);
  for (const chain of steps.newChains) batch.addChain(family, chain, BASE_CHAINS.get(chain));
  for (const chain of steps.flushChains) batch.flushChain(family, chain);
  for (const [chain, rules] of steps.newRules) {
    for (const rule of rules) batch.addRule(family, chain, rule.expressions);
  }
}

export function writeElements(batch: Batch, family: Family, operations: Operations): void {
  for (const [set, elements] of operations.deletions) batch.deleteElements(family, SETS[family][set], elements);
  for (const [set, elements] of operations.additions) batch.addElements(family, SETS[family][set], elements);
}

/** Elements written between two turns of the event loop. */
const TURN_ELEMENTS = 10_000;

/** The same, giving the event loop turns; nothing else may write to the batch meanwhile. */
export async function writeElementsInTurns(batch: Batch, family: Family, operations: Operations): Promise<void> {
  const parts = async (elements: readonly Element[], write: (part: readonly Element[]) => void): Promise<void> => {
    for (let at = 0; at < elements.length; at += TURN_ELEMENTS) {
      if (at > 0) await new Promise<void>((resolve) => setImmediate(resolve));
      write(elements.slice(at, at + TURN_ELEMENTS));
    }
  };
  for (const [set, elements] of operations.deletions) {
    await parts(elements, (part) => batch.deleteElements(family, SETS[family][set], part));
  }
  for (const [set, elements] of operations.additions) {
    await parts(elements, (part) => batch.addElements(family, SETS[family][set], part));
  }
}

export function writeRemovals(batch: Batch, steps: TableSteps): void {
  // A foreign verdict map may lead to a foreign chain.
  for (const set of steps.oldSets) batch.deleteSet(steps.family, set);
  for (const chain of steps.oldChains) batch.deleteChain(steps.family, chain);
}

/** Chains of the kernel that an action of ours would have; they stay although nothing uses them now. */
export function knownActionChains(kernel: KernelTable): Action[] {
  return [...kernel.chains].flatMap(([name, base]) => {
    const action = base === '' ? parseChainName(name) : null;
    return action && chainName(action) === name ? [action] : [];
  });
}

/** Only the operations on `actions` and `local-actions`, or all but those. */
export function actionOperations(operations: Operations, only: boolean): Operations {
  const pick = (lists: Map<SetName, Element[]>): Map<SetName, Element[]> =>
    new Map([...lists].filter(([set]) => (set === 'actions' || set === 'local-actions') === only));
  return { deletions: pick(operations.deletions), additions: pick(operations.additions) };
}

/** In words, for the log. */
export function describeSteps(steps: TableSteps): string {
  if (steps.replaceTable !== 'none')
    return `${steps.family} table ${steps.replaceTable === 'create' ? 'missing' : 'damaged'}`;
  const parts = [
    ...steps.newSets.map((s) => `set ${s.name} missing`),
    ...steps.newChains.map((c) => `chain ${c} missing`),
    ...steps.flushChains.map((c) => `rules of chain ${c} changed`),
  ];
  for (const set of SET_NAMES) {
    const wrong = steps.elements.deletions.get(set)?.length ?? 0;
    const missing = steps.elements.additions.get(set)?.length ?? 0;
    if (wrong + missing > 0) parts.push(`${set}: ${missing} elements missing, ${wrong} not ours`);
  }
  const MOST = 8;
  const more = parts.length > MOST ? `, and ${parts.length - MOST} more` : '';
  return `${steps.family} ${parts.slice(0, MOST).join(', ')}${more}`;
}
