// Reads the rules of our chains and of the built-in chains out of the kernel, chain by chain: a dump of a whole table
// takes quadratic time. Only chains of interest are read, however many others a firewall has beside them.

import { Breather } from '../../native/breather.ts';
import type { Family } from '../../native/ip.ts';
import { InterruptedDump, type NftConnection } from '../../native/nftables/connection.ts';
import { BUILT_IN_CHAINS } from './built-in.ts';
import { decodeRule } from './decode.ts';
import { type Rule, TABLES, type Table } from './rule.ts';

export interface ListedRule {
  readonly handle: number;
  /** null: opaque, equal to no rule of ours. */
  readonly rule: Rule | null;
}

export interface KernelRules {
  /** Generation of the ruleset when the reading began. */
  readonly generation: number;
  /**
   * Nothing in nf_tables changed meanwhile. If false, each chain is still as it was at some moment of the reading: what
   * others did to chains of ours since must be learned from notifications.
   */
  readonly settled: boolean;
  /** Tables that exist, with the built-in chains that we use and the chains asked for, as far as they exist. */
  readonly tables: ReadonlyMap<Table, ReadonlyMap<string, readonly ListedRule[]>>;
}

export interface ReadOptions {
  /** Whether a chain that is not built in is of interest. */
  readonly wanted: (table: Table, chain: string) => boolean;
  /** How often to start again when the ruleset changes meanwhile. */
  readonly attempts?: number;
}

const CHAIN_ATTEMPTS = 20;

/** @throws InterruptedDump when the list of chains, or one chain, never stands still. */
export async function readRules(nft: NftConnection, family: Family, options: ReadOptions): Promise<KernelRules> {
  const { wanted, attempts = 3 } = options;
  for (let attempt = 1; ; attempt++) {
    const generation = nft.generation();
    const tables = await readOnce(nft, family, wanted);
    const settled = nft.generation() === generation;
    if (settled || attempt >= attempts) return { generation, settled, tables };
  }
}

async function readOnce(
  nft: NftConnection,
  family: Family,
  wanted: ReadOptions['wanted'],
): Promise<KernelRules['tables']> {
  const existing = nft.tables().filter((table) => table.family === family);
  const names = await steady(async () => {
    const out = new Map<Table, string[]>();
    for (const table of TABLES) if (existing.some((t) => t.name === table)) out.set(table, []);
    await nft.eachChain(family, (table, { name }) => {
      const list = out.get(table as Table);
      if (list && (BUILT_IN_CHAINS[table as Table].has(name) || wanted(table as Table, name))) list.push(name);
    });
    return out;
  });
  const breather = new Breather();
  const tables = new Map<Table, Map<string, readonly ListedRule[]>>();
  for (const [table, list] of names) {
    const chains = new Map<string, readonly ListedRule[]>();
    tables.set(table, chains);
    for (const name of list) {
      chains.set(name, await readChain(nft, family, table, name));
      if (breather.due) await breather.rest();
    }
  }
  return tables;
}

/** The rules of one chain in order; none if it does not exist. @throws InterruptedDump when it never stands still. */
export function readChain(nft: NftConnection, family: Family, table: Table, chain: string): Promise<ListedRule[]> {
  return steady(async () => {
    const rules: ListedRule[] = [];
    await nft.chainRules(family, table, chain, ({ handle, expressions }) => {
      rules.push({ handle, rule: decodeRule(family, expressions) });
    });
    return rules;
  });
}

/** Repeats a dump that a change interrupts. */
async function steady<T>(dump: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await dump();
    } catch (error) {
      if (!(error instanceof InterruptedDump) || attempt >= CHAIN_ATTEMPTS) throw error;
    }
  }
}
