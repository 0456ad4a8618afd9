// One nf_tables transaction: messages between BATCH_BEGIN and BATCH_END, applied by the kernel all or nothing.
// Each message remembers what it is about, so that a refusal can name the object and the element at fault.
import type { Family } from '../ip.ts';
import {
  Attributes,
  eachAttribute,
  type MessageWriter,
  NLM_F_ACK,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_ECHO,
  NLM_F_EXCL,
  NLM_F_REQUEST,
} from '../netlink/message.ts';
import {
  NFNL_BATCH_GENID,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS_NFTABLES,
  NFPROTO,
  NFT_MSG,
  nfgenmsg,
  SET_FLAG,
  VERDICT,
} from './constants.ts';
import { type Expression, writeExpression, writeVerdict } from './expression.ts';

/** An element of a set or map. All bytes are latin1 strings, fields padded as the set's key has them. */
export interface Element {
  readonly key: string;
  /** Last key of an interval; absent for a single key. */
  readonly keyEnd?: string;
  /** Data of a map; for a verdict map the name of the chain to go to. */
  readonly data?: string;
  /** Shown by nft; at most 127 bytes. */
  readonly comment?: string;
}

export interface SetDeclaration {
  readonly name: string;
  /** SET_FLAG bits. */
  readonly flags: number;
  readonly keyType: number;
  readonly keyLength: number;
  /** Present for maps; TYPE_VERDICT for verdict maps. */
  readonly dataType?: number;
  readonly dataLength?: number;
  /** Default timeout of elements. */
  readonly timeoutMs?: number;
  /** Largest number of elements; only for sets that packets write. */
  readonly size?: number;
  /** Lengths of the fields of an interval concatenation, in bytes. */
  readonly concat?: readonly number[];
  /** What nft needs to print the set (libnftnl udata), latin1 bytes. */
  readonly userdata: string;
}

export interface BaseChain {
  readonly type: 'filter' | 'nat';
  readonly hook: number;
  readonly priority: number;
  /** Leave the policy of a chain that exists alone; a new one accepts either way. */
  readonly keepPolicy?: boolean;
}

export interface RuleOptions {
  /** Where the rule goes: the default is the end of the chain; a number is the handle of the rule it goes in front of. */
  readonly at?: 'end' | 'top' | number;
  /** IP protocol that matches and targets of x_tables are checked against (NFTA_RULE_COMPAT). */
  readonly compatProtocol?: number | undefined;
  /** Have the kernel tell the handle: see CommitResult. */
  readonly echo?: boolean;
}

/** What a message of the batch is about. */
export interface Subject {
  readonly seq: number;
  readonly at: number;
  readonly family: Family;
  readonly what: string;
  /** Name of the set for element messages. */
  readonly set: string | null;
}

const MAX_NEST = 60_000;
const LIST_ELEM = 1;
const DATA_VALUE = 1;

export class Batch {
  readonly #writer: MessageWriter;
  readonly #nextSeq: () => number;
  #table: string;
  readonly subjects: Subject[] = [];
  readonly beginSeq: number;
  #finished = false;
  /** Elements added and deleted, and objects of other kinds touched. */
  readonly counts = { added: 0, deleted: 0, objects: 0 };

  /** `generation` makes the kernel refuse with ERESTART if anything changed since (NFNL_BATCH_GENID). */
  constructor(options: {
    writer: MessageWriter;
    nextSeq: () => number;
    table: string;
    generation?: number | undefined;
  }) {
    this.#writer = options.writer;
    this.#nextSeq = options.nextSeq;
    this.#table = options.table;
    this.#writer.reset();
    this.beginSeq = this.#nextSeq();
    this.#writer.startMessage(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, this.beginSeq);
    this.#writer.raw(nfgenmsg(0, NFNL_SUBSYS_NFTABLES));
    if (options.generation !== undefined) this.#writer.attrU32(NFNL_BATCH_GENID, options.generation);
    this.#writer.endMessage();
  }

  get empty(): boolean {
    return this.subjects.length === 0;
  }

  get bytes(): number {
    return this.#writer.length;
  }

  /** The messages that follow are about objects of this table. */
  useTable(name: string): void {
    this.#table = name;
  }

  /** Takes back all messages from the `count`th on. */
  rewind(count: number): void {
    const first = this.subjects[count];
    if (!first) return;
    this.#writer.rewind(first.at);
    this.counts.objects -= this.subjects.length - count;
    this.subjects.length = count;
  }

  /** Gives up the bytes, and a buffer larger than `capacity`. */
  release(capacity: number): void {
    this.#writer.shrink(capacity);
  }

  #start(type: number, flags: number, family: Family, what: string, set: string | null = null): void {
    const seq = this.#nextSeq();
    this.subjects.push({ seq, at: this.#writer.length, family, what, set });
    this.#writer.startMessage((NFNL_SUBSYS_NFTABLES << 8) | type, NLM_F_REQUEST | flags, seq);
    this.#writer.raw(nfgenmsg(NFPROTO[family]));
    if (set === null) this.counts.objects++;
  }

  /** Without `userdata` a table that exists stays as it is. */
  addTable(family: Family, userdata?: string): void {
    this.#start(NFT_MSG.newTable, NLM_F_CREATE, family, 'table');
    this.#writer.attrString(1, this.#table);
    if (userdata !== undefined) {
      this.#writer.attrU32(2, 0);
      this.#writer.attr(6, userdata);
    }
    this.#writer.endMessage();
  }

  /** Deletes a table; `name` defaults to the batch's own. */
  deleteTable(family: Family, name = this.#table): void {
    this.#start(NFT_MSG.delTable, 0, family, `table ${name}`);
    this.#writer.attrString(1, name);
    this.#writer.endMessage();
  }

  /** `exclusive`: it is an error (EEXIST) if the chain exists. */
  addChain(family: Family, name: string, base?: BaseChain, exclusive = false): void {
    this.#start(NFT_MSG.newChain, NLM_F_CREATE | (exclusive ? NLM_F_EXCL : 0), family, `chain ${name}`);
    this.#writer.attrString(1, this.#table);
    this.#writer.attrString(3, name);
    if (base) {
      const hook = this.#writer.nest(4);
      this.#writer.attrU32(1, base.hook);
      this.#writer.attrU32(2, base.priority);
      this.#writer.endNest(hook);
      this.#writer.attrString(7, base.type);
      if (!base.keepPolicy) this.#writer.attrU32(5, VERDICT.accept);
    }
    this.#writer.endMessage();
  }

  deleteChain(family: Family, name: string): void {
    this.#start(NFT_MSG.delChain, 0, family, `chain ${name}`);
    this.#writer.attrString(1, this.#table);
    this.#writer.attrString(3, name);
    this.#writer.endMessage();
  }

  /** Deletes all rules of a chain. */
  flushChain(family: Family, name: string): void {
    this.#start(NFT_MSG.delRule, 0, family, `rules of chain ${name}`);
    this.#writer.attrString(1, this.#table);
    this.#writer.attrString(2, name);
    this.#writer.endMessage();
  }

  addRule(family: Family, chain: string, expressions: readonly Expression[], options: RuleOptions = {}): void {
    const { at = 'end', compatProtocol, echo = false } = options;
    // Without NLM_F_APPEND a rule goes to the top, or in front of the rule at NFTA_RULE_POSITION.
    const flags = NLM_F_CREATE | (at === 'end' ? NLM_F_APPEND : 0) | (echo ? NLM_F_ECHO : 0);
    const w = this.#writer;
    this.#start(NFT_MSG.newRule, flags, family, `rule in chain ${chain}`);
    w.attrString(1, this.#table);
    w.attrString(2, chain);
    const list = w.nest(4);
    for (const expression of expressions) writeExpression(w, expression);
    w.endNest(list);
    if (compatProtocol !== undefined) {
      const compat = w.nest(5);
      w.attrU32(1, compatProtocol);
      w.attrU32(2, 0);
      w.endNest(compat);
    }
    if (typeof at === 'number') w.attrU64(6, BigInt(at));
    w.endMessage();
  }

  deleteRule(family: Family, chain: string, handle: number): void {
    this.#start(NFT_MSG.delRule, 0, family, `rule ${handle} of chain ${chain}`);
    this.#writer.attrString(1, this.#table);
    this.#writer.attrString(2, chain);
    this.#writer.attrU64(3, BigInt(handle));
    this.#writer.endMessage();
  }

  addSet(family: Family, set: SetDeclaration): void {
    const w = this.#writer;
    this.#start(NFT_MSG.newSet, NLM_F_CREATE, family, `set ${set.name}`);
    w.attrString(1, this.#table);
    w.attrString(2, set.name);
    w.attrU32(10, this.subjects.length);
    w.attrU32(3, set.flags);
    w.attrU32(4, set.keyType);
    w.attrU32(5, set.keyLength);
    if (set.dataType !== undefined) {
      w.attrU32(6, set.dataType);
      if (set.dataLength !== undefined) w.attrU32(7, set.dataLength);
    }
    const desc = w.nest(9);
    if (set.size !== undefined) w.attrU32(1, set.size);
    if (set.concat) {
      const concat = w.nest(2);
      for (const length of set.concat) {
        const field = w.nest(LIST_ELEM);
        w.attrU32(1, length);
        w.endNest(field);
      }
      w.endNest(concat);
    }
    w.endNest(desc);
    if (set.timeoutMs !== undefined) w.attrU64(11, BigInt(set.timeoutMs));
    w.attr(13, set.userdata);
    w.endMessage();
  }

  deleteSet(family: Family, name: string): void {
    this.#start(NFT_MSG.delSet, 0, family, `set ${name}`);
    this.#writer.attrString(1, this.#table);
    this.#writer.attrString(2, name);
    this.#writer.endMessage();
  }

  addElements(family: Family, set: SetDeclaration, elements: Iterable<Element>): void {
    this.counts.added += this.#elements(NFT_MSG.newSetElem, NLM_F_CREATE, family, set, elements);
  }

  deleteElements(family: Family, set: SetDeclaration, elements: Iterable<Element>): void {
    this.counts.deleted += this.#elements(NFT_MSG.delSetElem, 0, family, set, elements);
  }

  #elements(type: number, flags: number, family: Family, set: SetDeclaration, elements: Iterable<Element>): number {
    const w = this.#writer;
    const adding = type === NFT_MSG.newSetElem;
    const verdicts = (set.flags & SET_FLAG.map) !== 0 && set.dataLength === undefined;
    let list = -1;
    let count = 0;
    const close = (): void => {
      w.endNest(list);
      w.endMessage();
      list = -1;
    };
    for (const element of elements) {
      if (list >= 0 && w.length - list > MAX_NEST) close();
      if (list < 0) {
        this.#start(type, flags, family, `${adding ? 'new' : 'old'} elements of ${set.name}`, set.name);
        w.attrString(1, this.#table);
        w.attrString(2, set.name);
        list = w.nest(3);
      }
      const entry = w.nest(LIST_ELEM);
      const key = w.nest(1);
      w.attr(DATA_VALUE, element.key);
      w.endNest(key);
      if (element.keyEnd !== undefined) {
        const end = w.nest(10);
        w.attr(DATA_VALUE, element.keyEnd);
        w.endNest(end);
      }
      if (adding) {
        if (element.data !== undefined) {
          if (verdicts) {
            writeVerdict(w, 2, VERDICT.goto, element.data);
          } else {
            const data = w.nest(2);
            w.attr(DATA_VALUE, element.data);
            w.endNest(data);
          }
        }
        if (element.comment !== undefined) w.attr(6, commentUserdata(element.comment));
      }
      w.endNest(entry);
      count++;
    }
    if (list >= 0) close();
    return count;
  }

  /** Closes the batch and returns its bytes, valid until the writer is used again. */
  finish(): Buffer {
    if (!this.#finished) {
      this.#finished = true;
      // Kernels before 6.10 do not acknowledge BATCH_END, so the last ordinary message asks as well.
      const last = this.subjects.at(-1);
      if (last) {
        const { buffer } = this.#writer;
        buffer.writeUInt16LE(buffer.readUInt16LE(last.at + 6) | NLM_F_ACK, last.at + 6);
      }
      this.#writer.startMessage(NFNL_MSG_BATCH_END, NLM_F_REQUEST, this.#nextSeq());
      this.#writer.raw(nfgenmsg(0, NFNL_SUBSYS_NFTABLES));
      this.#writer.endMessage();
    }
    return this.#writer.bytes();
  }

  /** Which message has this sequence number: its place in `subjects`, or null. */
  indexOf(seq: number): number | null {
    const first = this.subjects[0];
    if (!first) return null;
    // Numbers are consecutive except where the counter wraps.
    const guess = seq - first.seq;
    if (this.subjects[guess]?.seq === seq) return guess;
    const found = this.subjects.findIndex((s) => s.seq === seq);
    return found < 0 ? null : found;
  }

  /** The key of the element at `offset` of a subject's message (extended acknowledgement), or null. */
  elementKeyAt(subject: Subject, offset: number): string | null {
    const buffer = this.#writer.buffer;
    const at = subject.at + offset;
    if (subject.set === null || at + 4 > this.#writer.length) return null;
    const length = buffer.readUInt16LE(at);
    let key: string | null = null;
    try {
      eachAttribute(buffer, at + 4, at + length, (type, from, to) => {
        if (type === 1) key = new Attributes(buffer, from, to).bytes(DATA_VALUE) ?? null;
      });
    } catch {
      return null;
    }
    return key;
  }
}

/** libnftnl userdata of a comment: TLV 0, text and NUL. */
export function commentUserdata(text: string): string {
  const bytes = Buffer.from(text, 'utf8').toString('latin1').slice(0, 127);
  return `\0${String.fromCharCode(bytes.length + 1)}${bytes}\0`;
}

/** The text in a comment userdata, or undefined. */
export function commentText(userdata: string): string | undefined {
  if (userdata.charCodeAt(0) !== 0) return undefined;
  return Buffer.from(userdata.slice(2, 2 + userdata.charCodeAt(1) - 1), 'latin1').toString('utf8');
}
