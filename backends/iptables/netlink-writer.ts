// Writes changes of rules over nf_tables netlink: all tables and families in one transaction if it is not too large,
// otherwise in several of which each leaves the rules consistent. A refusal names the chain and the rule.

import { Breather } from '../../native/breather.ts';
import type { Family } from '../../native/ip.ts';
import { NetlinkSocket } from '../../native/netlink/socket.ts';
import type { Batch } from '../../native/nftables/batch.ts';
import { InterruptedDump, type NftConnection } from '../../native/nftables/connection.ts';
import type { Refusal } from '../../native/nftables/results.ts';
import { BUILT_IN_CHAINS } from './built-in.ts';
import { compatProtocol, encodeRule } from './encode.ts';
import { type ListedRule, readChain } from './read.ts';
import { type Rule, ruleKey, type Table } from './rule.ts';
import { cutPoint, type Insertion, type RuleChanges, type Step, stepsOf } from './rule-changes.ts';

/** What the kernel, or the encoding, refused. */
export interface RuleRefusal {
  /** Of an errno, such as ENOENT: a jump to a missing chain, or no module; EINVAL also for a rule that cannot be encoded. */
  readonly code: string;
  readonly message: string;
  /** The rest is null when the transaction as a whole was refused. */
  readonly family: Family | null;
  readonly table: Table | null;
  readonly chain: string | null;
  /** The very object that was given; null when the refusal is about the chain. */
  readonly rule: Rule | null;
}

export interface WriteCounts {
  readonly transactions: number;
  readonly messages: number;
  readonly bytes: number;
}

/** `counts` are about what was committed: a refusal may come after transactions that succeeded. */
export type WriteResult = { readonly counts: WriteCounts } & (
  | {
      readonly outcome: 'committed';
      /** Handles of the rules inserted; one that is missing must be learned by reading the chain. */
      readonly handles: ReadonlyMap<Insertion, number>;
    }
  | { readonly outcome: 'refused'; readonly refusals: readonly RuleRefusal[] }
  /** The ruleset is no longer of the generation given. */
  | { readonly outcome: 'outdated' }
  /** Replies were lost: read what the kernel holds. */
  | { readonly outcome: 'unknown' }
);

export interface NetlinkWriterOptions {
  /** Bytes that one transaction may have; the default is what the socket can send. */
  readonly limitBytes?: number;
  readonly limitMessages?: number;
}

const FORCED_LIMIT = 48 << 20;
/**
 * If anybody on the machine listens to nf_tables, in whatever network namespace, the kernel keeps 4 kB for each object
 * of a transaction until its end: 230,000 messages at once take 1.5 GB, and twice the time that parts of them take.
 */
const MESSAGE_LIMIT = 10_000;
/** More insertions than this are looked up afterwards: telling their handles could overflow the receive buffer. */
const MOST_ECHOES = 100;

export class NetlinkWriter {
  readonly #nft: NftConnection;
  readonly #limits: Limits;

  /** Nothing else may use the connection while a commit is going on. */
  constructor(nft: NftConnection, options: NetlinkWriterOptions = {}) {
    this.#nft = nft;
    this.#limits = {
      bytes: options.limitBytes ?? (nft.socket.sendForced ? FORCED_LIMIT : NetlinkSocket.sendLimit),
      messages: options.limitMessages ?? MESSAGE_LIMIT,
    };
  }

  /**
   * Makes the changes. With `generation`, only if nothing has changed since (checked by the first transaction).
   * Encoding gives the event loop turns, and the kernel works on another thread.
   */
  async commit(changes: readonly RuleChanges[], generation?: number): Promise<WriteResult> {
    const insertions = changes.flatMap(({ insert = [] }) => insert);
    const series = new TransactionSeries(this.#nft, insertions.length <= MOST_ECHOES, generation);
    const breather = new Breather();
    for (const change of changes) {
      for (const step of stepsOf(change)) {
        series.add(step);
        if (series.isLarger(this.#limits) && !(await series.sendFirstPart())) return series.result();
        if (breather.due) await breather.rest();
      }
    }
    if ((await series.finish()) && insertions.length > MOST_ECHOES) await this.#lookUp(changes, series.handles);
    return series.result();
  }

  /** Learns the handles of insertions by reading the chains. */
  async #lookUp(changes: readonly RuleChanges[], handles: Map<Insertion, number>): Promise<void> {
    for (const { family, insert = [] } of changes) {
      const chains = Map.groupBy(insert, ({ table, chain }) => `${table} ${chain}`);
      for (const insertions of chains.values()) {
        const { table, chain } = insertions[0]!;
        // Handles ascend, so those of the insertions are the last ones of equal rules, in the same order.
        const listed = await this.#listed(family, table, chain);
        for (const insertion of insertions.toReversed()) {
          const key = ruleKey(insertion.rule);
          const at = listed.findLastIndex(({ rule }) => rule !== null && ruleKey(rule) === key);
          if (at < 0) continue;
          handles.set(insertion, listed[at]!.handle);
          listed.length = at;
        }
      }
    }
  }

  /** Rules by handle; none if others keep changing the ruleset. */
  async #listed(family: Family, table: Table, chain: string): Promise<ListedRule[]> {
    try {
      return (await readChain(this.#nft, family, table, chain)).sort((a, b) => a.handle - b.handle);
    } catch (error) {
      if (error instanceof InterruptedDump) return [];
      throw error;
    }
  }
}

interface Limits {
  readonly bytes: number;
  readonly messages: number;
}

/** Transactions one after another; while the kernel works on one the next is written. */
class TransactionSeries {
  readonly handles = new Map<Insertion, number>();
  readonly #nft: NftConnection;
  readonly #echo: boolean;
  #batch: Batch;
  /** What each message of the batch is for. */
  #steps: Step[] = [];
  readonly #refusals: RuleRefusal[] = [];
  #inFlight: Promise<void> = Promise.resolve();
  #failure: Exclude<WriteResult, { outcome: 'committed' }> | null = null;
  #error: unknown = null;
  #counts: WriteCounts = { transactions: 0, messages: 0, bytes: 0 };

  constructor(nft: NftConnection, echo: boolean, generation: number | undefined) {
    this.#nft = nft;
    this.#echo = echo;
    this.#batch = nft.batch('', generation);
  }

  add(step: Step): void {
    try {
      writeStep(this.#batch, step, this.#echo);
      this.#steps.push(step);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.#refusals.push(refusalOf(step, 'EINVAL', `rule in chain ${step.chain}: ${error.message}`));
    }
  }

  isLarger(limits: Limits): boolean {
    return this.#batch.bytes > limits.bytes || this.#steps.length > limits.messages;
  }

  /** Sends all but the end of what was added, which begins the next batch. @returns false after a failure. */
  async sendFirstPart(): Promise<boolean> {
    const rest = this.#steps.splice(Math.max(1, cutPoint(this.#steps)));
    this.#batch.rewind(this.#steps.length);
    if (!(await this.#send())) return false;
    for (const step of rest) this.add(step);
    return true;
  }

  /** Sends what was added and waits for all verdicts. */
  async finish(): Promise<boolean> {
    return (await this.#send()) && (await this.#settled());
  }

  /** Whether all that was sent is committed. */
  async #settled(): Promise<boolean> {
    await this.#inFlight;
    if (this.#error !== null) throw this.#error;
    return this.#failure === null;
  }

  /** Sends the batch once the one before is committed, does not wait for the verdict, and begins another. */
  async #send(): Promise<boolean> {
    if (!(await this.#settled())) return false;
    if (this.#refusals.length > 0) {
      this.#failure = { outcome: 'refused', refusals: this.#refusals, counts: this.#counts };
      return false;
    }
    this.#inFlight = this.#commit(this.#batch, this.#steps).catch((error: unknown) => {
      this.#error = error;
    });
    this.#batch = this.#nft.batch('');
    this.#steps = [];
    return true;
  }

  async #commit(batch: Batch, steps: readonly Step[]): Promise<void> {
    const { bytes } = batch;
    // On another thread, however small: validation goes through the whole table, and after deletions the kernel waits
    // for them to be carried out.
    const result = await this.#nft.commit(batch, true);
    const counts = this.#counts;
    if (result.outcome === 'unknown') {
      this.#failure = { outcome: 'unknown', counts };
    } else if (result.outcome === 'refused') {
      this.#failure = result.refusals.some(({ code }) => code === 'ERESTART')
        ? { outcome: 'outdated', counts }
        : { outcome: 'refused', refusals: result.refusals.map((r) => describeRefusal(r, steps)), counts };
    } else if (steps.length > 0) {
      for (const [index, handle] of result.handles) {
        const insertion = steps[index]?.insertion;
        if (insertion) this.handles.set(insertion, handle);
      }
      this.#counts = {
        transactions: counts.transactions + 1,
        messages: counts.messages + steps.length,
        bytes: counts.bytes + bytes,
      };
    }
  }

  result(): WriteResult {
    return this.#failure ?? { outcome: 'committed', handles: this.handles, counts: this.#counts };
  }
}

function describeRefusal({ index, code, message }: Refusal, steps: readonly Step[]): RuleRefusal {
  const step = index === null ? undefined : steps[index];
  if (step) return refusalOf(step, code, message);
  return { code, message, family: null, table: null, chain: null, rule: null };
}

const refusalOf = ({ family, table, chain, rule }: Step, code: string, message: string): RuleRefusal => ({
  code,
  message: `${table}: ${message}`,
  family,
  table,
  chain: chain === '' ? null : chain,
  rule,
});

function writeStep(batch: Batch, step: Step, echo: boolean): void {
  const { family, table, chain } = step;
  batch.useTable(table);
  switch (step.op) {
    case 'table':
      batch.addTable(family);
      break;
    case 'builtIn':
      batch.addChain(family, chain, BUILT_IN_CHAINS[table].get(chain));
      break;
    case 'chain':
      batch.addChain(family, chain);
      break;
    case 'newChain':
      batch.addChain(family, chain, undefined, true);
      break;
    case 'flush':
      batch.flushChain(family, chain);
      break;
    case 'rule': {
      const rule = step.rule!;
      batch.addRule(family, chain, encodeRule(family, rule), {
        at: step.at,
        compatProtocol: compatProtocol(rule),
        echo: echo && step.insertion !== null,
      });
      break;
    }
    case 'deleteRule':
      batch.deleteRule(family, chain, step.at as number);
      break;
    case 'deleteChain':
      batch.deleteChain(family, chain);
      break;
  }
}
