// Writes changes of rules over nf_tables netlink: all tables and families in one transaction if it fits, otherwise in
// several of which each leaves the rules consistent. A refusal names the chain and the rule.
import type { Family } from '../../native/ip.ts';
import { NetlinkSocket } from '../../native/netlink/socket.ts';
import type { Batch } from '../../native/nftables/batch.ts';
import { InterruptedDump, type NftConnection, type Refusal } from '../../native/nftables/connection.ts';
import { Breather } from '../breather.ts';
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
}

const FORCED_LIMIT = 96 << 20;
/** More insertions than this are looked up afterwards: telling their handles could overflow the receive buffer. */
const MOST_ECHOES = 100;

export class NetlinkWriter {
  readonly #nft: NftConnection;
  readonly #limit: number;

  /** Nothing else may use the connection while a commit is going on. */
  constructor(nft: NftConnection, options: NetlinkWriterOptions = {}) {
    this.#nft = nft;
    this.#limit = options.limitBytes ?? (nft.socket.sendForced ? FORCED_LIMIT : NetlinkSocket.sendLimit);
  }

  /**
   * Makes the changes. With `generation`, only if nothing has changed since (checked by the first transaction).
   * Encoding gives the event loop turns, and the kernel works on another thread.
   */
  async commit(changes: readonly RuleChanges[], generation?: number): Promise<WriteResult> {
    const insertions = changes.flatMap(({ insert = [] }) => insert);
    const transaction = new Transaction(this.#nft, insertions.length <= MOST_ECHOES, generation);
    const breather = new Breather();
    for (const change of changes) {
      for (const step of stepsOf(change)) {
        transaction.add(step);
        if (transaction.batch.bytes > this.#limit && !(await transaction.sendFirstPart())) return transaction.result();
        if (breather.due) await breather.rest();
      }
    }
    await transaction.send();
    if (insertions.length > MOST_ECHOES) await this.#lookUp(changes, transaction);
    return transaction.result();
  }

  /** Learns the handles of insertions by reading the chains. */
  async #lookUp(changes: readonly RuleChanges[], transaction: Transaction): Promise<void> {
    if (transaction.failure) return;
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
          transaction.handles.set(insertion, listed[at]!.handle);
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

class Transaction {
  batch: Batch;
  failure: Exclude<WriteResult, { outcome: 'committed' }> | null = null;
  readonly handles = new Map<Insertion, number>();
  readonly #nft: NftConnection;
  readonly #echo: boolean;
  /** What each message of the batch is for. */
  #steps: Step[] = [];
  readonly #refusals: RuleRefusal[] = [];
  #counts: WriteCounts = { transactions: 0, messages: 0, bytes: 0 };

  constructor(nft: NftConnection, echo: boolean, generation: number | undefined) {
    this.#nft = nft;
    this.#echo = echo;
    this.batch = nft.batch('', generation);
  }

  add(step: Step): void {
    try {
      writeStep(this.batch, step, this.#echo);
      this.#steps.push(step);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.#refusals.push(refusalOf(step, 'EINVAL', `rule in chain ${step.chain}: ${error.message}`));
    }
  }

  /** Commits all but the end of what was added, which becomes the next batch. @returns false after a failure. */
  async sendFirstPart(): Promise<boolean> {
    const rest = this.#steps.splice(Math.max(1, cutPoint(this.#steps)));
    this.batch.rewind(this.#steps.length);
    if (!(await this.send())) return false;
    for (const step of rest) this.add(step);
    return true;
  }

  /** Commits what was added, and begins the next batch. */
  async send(): Promise<boolean> {
    if (this.#refusals.length > 0) {
      this.failure = { outcome: 'refused', refusals: this.#refusals, counts: this.#counts };
      return false;
    }
    const { bytes } = this.batch;
    // Validation goes through the whole table, however small the change: seconds, in large ones.
    const result = await this.#nft.commit(this.batch, true);
    if (result.outcome === 'committed') {
      for (const [index, handle] of result.handles) {
        const insertion = this.#steps[index]?.insertion;
        if (insertion) this.handles.set(insertion, handle);
      }
      const { transactions, messages } = this.#counts;
      if (this.#steps.length > 0) {
        this.#counts = {
          transactions: transactions + 1,
          messages: messages + this.#steps.length,
          bytes: this.#counts.bytes + bytes,
        };
      }
      this.#steps = [];
      this.batch = this.#nft.batch('');
      return true;
    }
    const counts = this.#counts;
    if (result.outcome === 'unknown') this.failure = { outcome: 'unknown', counts };
    else if (result.refusals.some((r) => r.code === 'ERESTART')) this.failure = { outcome: 'outdated', counts };
    else this.failure = { outcome: 'refused', refusals: result.refusals.map((r) => this.#refusal(r)), counts };
    return false;
  }

  #refusal(refusal: Refusal): RuleRefusal {
    const step = refusal.index === null ? undefined : this.#steps[refusal.index];
    const { code, message } = refusal;
    return step
      ? refusalOf(step, code, message)
      : { code, message, family: null, table: null, chain: null, rule: null };
  }

  result(): WriteResult {
    return this.failure ?? { outcome: 'committed', handles: this.handles, counts: this.#counts };
  }
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
