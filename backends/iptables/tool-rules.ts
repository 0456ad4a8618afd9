// Rules through the iptables tools: the only way for the legacy variant, and a way out for the nft one. Each commit is
// one run per family; the nft variant needs several when many chains change. Tables are written one after another, so a
// refusal in one may come after others are done.
import { readFileSync } from 'node:fs';
import type { Family } from '../../native/ip.ts';
import { BUILT_IN_CHAINS } from './built-in.ts';
import { CANARY } from './fixed-rules.ts';
import type { RuleRefusal, WriteCounts, WriteResult } from './netlink-writer.ts';
import { type SavedRule, SaveParser } from './parse-save.ts';
import { isProxyChain } from './proxy-rules.ts';
import type { KernelRules, ListedRule } from './read.ts';
import { type RestoreLine, restoreLines } from './restore-text.ts';
import { TABLES, type Table } from './rule.ts';
import type { Insertion, RuleChanges, RuleHandle } from './rule-changes.ts';
import type { RuleWriter } from './rule-writer.ts';
import { findTool, type RunTool, type Tool, toolRunner, type Variant } from './run-tool.ts';
import { failedLines, findLines } from './tool-refusal.ts';
import { CHAINS_PER_RUN, inRuns } from './tool-runs.ts';

export interface ToolRulesOptions {
  readonly variant: Variant;
  readonly run?: RunTool;
  readonly legacyTables?: (family: Family) => readonly string[];
  /** Chains the nft variant is given at once, by default CHAINS_PER_RUN; fewer where it may not send so much. */
  readonly chainsPerRun?: number;
}

const WAIT = ['-w', '5'];
/** A resource is missing, such as the lock that another tool holds. */
const RESOURCE_PROBLEM = 4;
const PIECE_LINES = 1000;

/** Names of the legacy tables that exist. To ask the tool for another one would create it. */
export function legacyTables(family: Family): string[] {
  try {
    const file = family === 'IPv4' ? '/proc/net/ip_tables_names' : '/proc/net/ip6_tables_names';
    return readFileSync(file, 'utf8').split('\n').filter(Boolean);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

export class ToolRules implements RuleWriter {
  readonly variant: Variant;
  readonly #run: RunTool;
  readonly #chainsPerRun: number;
  readonly #legacyTables: (family: Family) => readonly string[];
  readonly #tools = new Map<Family, Promise<Tool>>();
  /** Rules of shared chains that the model does not know, as the last reading told them. */
  readonly #opaque = new Map<Family, Map<number, string>>();
  #handle = 0;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(options: ToolRulesOptions) {
    this.variant = options.variant;
    this.#run = options.run ?? toolRunner();
    this.#chainsPerRun = this.variant === 'nft' ? (options.chainsPerRun ?? CHAINS_PER_RUN) : Number.POSITIVE_INFINITY;
    this.#legacyTables = options.legacyTables ?? legacyTables;
  }

  /** One command at a time (I-53): all share one lock, whatever their family. */
  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work);
    this.#queue = result.catch(() => {});
    return result;
  }

  #tool(family: Family): Promise<Tool> {
    let tool = this.#tools.get(family);
    if (!tool) {
      tool = findTool(this.#run, this.variant, family);
      tool.catch(() => this.#tools.delete(family));
      this.#tools.set(family, tool);
    }
    return tool;
  }

  probe(family: Family): Promise<string | null> {
    return this.#exclusively(async () => {
      try {
        const program = (await this.#tool(family)).program('');
        const { status, stderr } = await this.#run({ program, args: [...WAIT, '-t', 'nat', '-S', 'POSTROUTING'] });
        return status === 0 ? null : `${program}: exit code ${status}: ${stderr}`;
      } catch (error) {
        return (error as Error).message;
      }
    });
  }

  /** Whether the canary chain is in table mangle (I-47). @throws Error when the tool fails. */
  hasCanary(family: Family): Promise<boolean> {
    return this.#exclusively(async () => {
      if (!this.#readable(family).includes('mangle')) return false;
      const program = (await this.#tool(family)).program('');
      const { status, stderr } = await this.#run({ program, args: [...WAIT, '-t', 'mangle', '-S', CANARY] });
      // 1: there is no such chain.
      if (status !== 0 && status !== 1) throw new Error(`${program}: exit code ${status}: ${stderr}`);
      return status === 0;
    });
  }

  /** The policy of a built-in chain. @throws ToolMissing; Error when the tool fails. */
  policy(family: Family, table: Table, chain: string): Promise<string | null> {
    return this.#exclusively(async () => {
      const program = (await this.#tool(family)).program('');
      let policy: string | null = null;
      const line = (text: string): void => {
        if (text.startsWith(`-P ${chain} `)) policy = text.split(' ')[2]!;
      };
      const { status, stderr } = await this.#run({ program, args: [...WAIT, '-t', table, '-S', chain], line });
      if (status !== 0) throw new Error(`${program}: exit code ${status}: ${stderr}`);
      return policy;
    });
  }

  /** @throws Error when the tool fails. */
  read(family: Family): Promise<KernelRules> {
    return this.#exclusively(async () => {
      const opaque = new Map<number, string>();
      const tables = new Map<Table, ReadonlyMap<string, readonly ListedRule[]>>();
      for (const table of this.#readable(family)) {
        const chains = await this.#save(family, table, opaque);
        if (chains) tables.set(table, chains);
      }
      this.#opaque.set(family, opaque);
      return { generation: 0, settled: true, tables };
    });
  }

  #readable(family: Family): readonly Table[] {
    if (this.variant === 'nft') return TABLES;
    const names = this.#legacyTables(family);
    return TABLES.filter((table) => names.includes(table));
  }

  async #save(
    family: Family,
    table: Table,
    opaque: Map<number, string>,
  ): Promise<Map<string, readonly ListedRule[]> | null> {
    const program = (await this.#tool(family)).program('-save');
    const parser = new SaveParser();
    const line = (text: string): void => parser.take(text);
    const { status, stderr } = await this.#run({ program, args: ['-t', table], line });
    if (status !== 0) throw new Error(`${program} -t ${table}: exit code ${status}: ${stderr}`);
    const saved = parser.tables().get(table);
    if (!saved) return null;
    const listed = ({ rule, text }: SavedRule): ListedRule => {
      const handle = ++this.#handle;
      if (rule === null) opaque.set(handle, text);
      return { handle, rule };
    };
    const chains = new Map<string, readonly ListedRule[]>();
    for (const [name, rules] of saved.chains) {
      if (BUILT_IN_CHAINS[table].has(name) || isProxyChain(table, name)) chains.set(name, rules.map(listed));
    }
    return chains;
  }

  /**
   * `generation` has no meaning here: rules are deleted by what they say. Of several families the first one is written
   * first; what comes after a refusal is not tried.
   * @throws Error when a tool cannot do its work now, such as for want of the lock; part of the changes may be made.
   */
  commit(changes: readonly RuleChanges[]): Promise<WriteResult> {
    return this.#exclusively(async () => {
      const counts = { transactions: 0, messages: 0, bytes: 0 };
      const handles = new Map<Insertion, number>();
      for (const change of changes) {
        for (const part of inRuns(change, this.#chainsPerRun)) {
          const refusals = await this.#restore(part, counts);
          if (refusals.length > 0) return { outcome: 'refused', refusals, counts };
        }
        for (const insertion of change.insert ?? []) handles.set(insertion, ++this.#handle);
      }
      return { outcome: 'committed', handles, counts };
    });
  }

  async #restore(changes: RuleChanges, counts: Writable<WriteCounts>): Promise<readonly RuleRefusal[]> {
    const { family } = changes;
    const lines = (): Iterable<RestoreLine> => restoreLines(changes, (place) => this.#textOf(family, place));
    if (lines()[Symbol.iterator]().next().done) return [];
    const program = (await this.#tool(family)).program('-restore');
    const sent = { transactions: 0, messages: 0, bytes: 0 };
    const input = pieces(lines(), sent);
    const { status, stderr } = await this.#run({ program, args: [...WAIT, '--noflush', '--counters'], input });
    if (status === 0) {
      counts.transactions += sent.transactions;
      counts.messages += sent.messages;
      counts.bytes += sent.bytes;
      return [];
    }
    const failed = failedLines(stderr);
    // The nft variant ends with this code for refusals of the kernel, too; then it names lines.
    const locked = status === RESOURCE_PROBLEM ? ' (a resource or the lock is not to be had now)' : '';
    if (failed.size === 0) throw new Error(`${program}: exit code ${status}${locked}: ${stderr}`);
    const found = findLines(family, lines(), failed);
    if (found.refusals.length === 0) throw new Error(`${program}: exit code ${status}: ${stderr}`);
    counts.transactions += found.committed;
    return found.refusals;
  }

  #textOf(family: Family, { table, chain, handle }: RuleHandle): string {
    const text = this.#opaque.get(family)?.get(handle);
    if (text === undefined) throw new Error(`${family} ${table} ${chain}: rule ${handle} has not been read`);
    return text;
  }

  close(): void {}
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

function* pieces(lines: Iterable<RestoreLine>, sent: Writable<WriteCounts>): Generator<string> {
  let text = '';
  let inPiece = 0;
  for (const line of lines) {
    text += `${line.text}\n`;
    sent.messages++;
    if (line.text === 'COMMIT') sent.transactions++;
    if (++inPiece < PIECE_LINES) continue;
    sent.bytes += text.length;
    yield text;
    [text, inPiece] = ['', 0];
  }
  sent.bytes += text.length;
  if (text !== '') yield text;
}
