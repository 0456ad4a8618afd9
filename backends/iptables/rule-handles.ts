// Rules that Services have in shared chains, with the handles by which they can be deleted one by one.

import { type Rule, ruleKey, type Table } from './rule.ts';
import type { Insertion } from './rule-changes.ts';

export interface PlacedRule {
  readonly table: Table;
  readonly chain: string;
  readonly rule: Rule;
  /** 0 until it is known. */
  handle: number;
}

const placeKey = (place: { table: Table; chain: string; rule: Rule }): string =>
  `${place.table} ${place.chain} ${ruleKey(place.rule)}`;

/** Placed rules by place and content; equal rules are interchangeable. */
export class RulePool {
  readonly #rules = new Map<string, PlacedRule[]>();

  constructor(rules: Iterable<PlacedRule> = []) {
    for (const rule of rules) this.add(rule);
  }

  add(rule: PlacedRule): void {
    const key = placeKey(rule);
    const list = this.#rules.get(key);
    if (list) list.push(rule);
    else this.#rules.set(key, [rule]);
  }

  /** Takes one that equals `wanted` out, or null. */
  take(wanted: { table: Table; chain: string; rule: Rule }): PlacedRule | null {
    const key = placeKey(wanted);
    const list = this.#rules.get(key);
    const taken = list?.shift() ?? null;
    if (list?.length === 0) this.#rules.delete(key);
    return taken;
  }

  /** Takes the very rule with this handle out. */
  takeHandle(wanted: PlacedRule): void {
    const key = placeKey(wanted);
    const list = (this.#rules.get(key) ?? []).filter(({ handle }) => handle !== wanted.handle);
    if (list.length > 0) this.#rules.set(key, list);
    else this.#rules.delete(key);
  }

  /** What nobody took. */
  rest(): PlacedRule[] {
    return [...this.#rules.values()].flat();
  }
}

/** An insertion and the placed rule that learns its handle. */
export interface NewRule {
  readonly insertion: Insertion;
  readonly placed: PlacedRule;
}
