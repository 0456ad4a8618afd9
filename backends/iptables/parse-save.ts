// Reads the text of iptables-save: which chains there are, and each rule as the model has it. A rule with anything the
// model does not know is opaque: it keeps its text and equals no rule of ours.
import { parseRule } from './parse-rule.ts';
import { type Rule, TABLES, type Table } from './rule.ts';

export interface SavedRule {
  /** null: opaque. */
  readonly rule: Rule | null;
  /** As listed, without `-A CHAIN`. */
  readonly text: string;
}

export interface SavedTable {
  /** Policies of the built-in chains that are there. */
  readonly policies: ReadonlyMap<string, string>;
  /** All chains, built-in ones among them, with their rules in order. */
  readonly chains: ReadonlyMap<string, readonly SavedRule[]>;
}

/** Takes the lines one by one, so that a long text need not be read without a pause. */
export class SaveParser {
  readonly #tables = new Map<Table, SavedTable>();
  #table: Table | 'other' | null = null;
  #policies = new Map<string, string>();
  #chains = new Map<string, SavedRule[]>();
  #number = 0;

  /** @throws Error when the line does not belong there. */
  take(line: string): void {
    this.#number++;
    if (line === '' || line.startsWith('#')) return;
    if (line.startsWith('*')) this.#begin(line.slice(1), line);
    else if (this.#table === null) throw this.#unexpected(line);
    else if (line.startsWith(':')) this.#declare(line);
    else if (line === 'COMMIT') this.#end();
    else this.#rule(line);
  }

  /** Tables other than those of the model are not among them. @throws Error when one does not end. */
  tables(): Map<Table, SavedTable> {
    if (this.#table !== null) throw new Error('iptables-save: the last table does not end');
    return this.#tables;
  }

  #begin(name: string, line: string): void {
    if (this.#table !== null) throw this.#unexpected(line);
    this.#table = TABLES.find((table) => table === name) ?? 'other';
    this.#policies = new Map();
    this.#chains = new Map();
  }

  #declare(line: string): void {
    const [name = '', policy = ''] = line.slice(1).split(' ');
    this.#chains.set(name, []);
    if (policy !== '-') this.#policies.set(name, policy);
  }

  #rule(line: string): void {
    const [, chain = '', rule = ''] = /^(?:\[\d+:\d+\] )?-A (\S+) ?(.*)$/.exec(line) ?? [];
    const rules = this.#chains.get(chain);
    if (rules === undefined) throw this.#unexpected(line);
    const isChain = (name: string): boolean => this.#chains.has(name) && !this.#policies.has(name);
    rules.push({ text: rule.trimEnd(), rule: parseRule(rule, isChain) });
  }

  #end(): void {
    const policies = this.#policies;
    if (this.#table !== null && this.#table !== 'other')
      this.#tables.set(this.#table, { policies, chains: this.#chains });
    this.#table = null;
  }

  #unexpected(line: string): Error {
    return new Error(`iptables-save, line ${this.#number}: unexpected "${line}"`);
  }
}

/** Packet counters, if listed, are not kept. @throws Error when it is no text of iptables-save. */
export function parseSave(text: string): Map<Table, SavedTable> {
  const parser = new SaveParser();
  for (const line of text.split('\n')) parser.take(line);
  return parser.tables();
}
