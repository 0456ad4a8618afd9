// Talks to nf_tables: commits batches, reads tables, chains, rules, sets and elements back.
import { Breather } from '../breather.ts';
import { FAMILIES, type Family } from '../ip.ts';
import { type Acknowledgement, decodeAcknowledgement, errnoName, NetlinkError } from '../netlink/error.ts';
import {
  Attributes,
  type Message,
  MessageWriter,
  messages,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  NLMSG_ERROR,
} from '../netlink/message.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from '../netlink/socket.ts';
import { Batch, type Element } from './batch.ts';
import { NFNL_SUBSYS_NFTABLES, NFPROTO, NFT_MSG, nfgenmsg, VERDICT } from './constants.ts';
import { visitElements } from './element.ts';
import { type Expression, readExpressions } from './expression.ts';
import type { CommitResult, KernelBaseChain, KernelChain, KernelRule, KernelSet, Refusal } from './results.ts';

const MiB = 1 << 20;
/** Batches above this size are written from a thread of the pool, so that the event loop stays free. */
const ASYNC_BYTES = MiB;
const NEW_RULE = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG.newRule;
const RULE_HANDLE = 3;
const CHAIN_HOOK = 4;
const CHAIN_POLICY = 5;

/** Listings of tables are short: each of these may be interrupted by itself. */
const LIST_ATTEMPTS = 20;

/** The table changed while it was being read. */
export class InterruptedDump extends Error {
  constructor() {
    super('nf_tables changed while it was being read');
    this.name = 'InterruptedDump';
  }
}

export class NftConnection {
  readonly socket: NetlinkSocket;
  /** Two in turns, so that a batch can be written while the one before is in flight. */
  readonly #writers = [new MessageWriter(64 * 1024), new MessageWriter(64 * 1024)] as const;
  #batches = 0;
  readonly #request = new MessageWriter(64 * 1024);
  #committing = false;

  constructor() {
    this.socket = new NetlinkSocket({
      protocol: NETLINK_NETFILTER,
      sendBuffer: 64 * MiB,
      receiveBuffer: 16 * MiB,
    });
  }

  close(): void {
    this.socket.close();
  }

  /** Begins a batch. Only one may be under construction, and one in flight, at a time. */
  batch(table: string, generation?: number): Batch {
    const writer = this.#writers[this.#batches++ & 1 ? 1 : 0];
    return new Batch({ writer, nextSeq: () => this.socket.nextSeq(), table, generation });
  }

  /**
   * Sends a batch and waits for the verdict of the kernel. An empty batch is committed without sending.
   * `slow`: committing may take long however small the batch is.
   */
  async commit(batch: Batch, slow = false): Promise<CommitResult> {
    if (batch.empty) return { outcome: 'committed', handles: new Map() };
    const bytes = batch.finish();
    this.#committing = true;
    try {
      if (slow || bytes.length > ASYNC_BYTES) await this.socket.sendAsync(bytes);
      else this.socket.send(bytes);
      return this.#verdict(batch);
    } finally {
      this.#committing = false;
      batch.release(MiB);
    }
  }

  #verdict(batch: Batch): CommitResult {
    const last = batch.subjects.at(-1)!.seq;
    const refusals: Refusal[] = [];
    const handles = new Map<number, number>();
    for (;;) {
      let datagram: Buffer | null;
      try {
        datagram = this.socket.receive();
      } catch (error) {
        if (error instanceof NetlinkError && error.code === 'ENOBUFS') return { outcome: 'unknown' };
        throw error;
      }
      if (datagram === null) return { outcome: 'unknown' };
      for (const message of messages(datagram)) {
        if (message.seq < batch.beginSeq) continue;
        if (message.type === NEW_RULE) echoedHandle(batch, message, handles);
        if (message.type !== NLMSG_ERROR) continue;
        const ack = decodeAcknowledgement(message);
        if (ack.errno !== 0) refusals.push(this.#refusal(batch, ack));
        // Replies come in the order of the messages; a refused commit answers for BATCH_BEGIN, first.
        if (ack.seq === batch.beginSeq || ack.seq >= last) {
          return refusals.length > 0 ? { outcome: 'refused', refusals } : { outcome: 'committed', handles };
        }
      }
    }
  }

  #refusal(batch: Batch, ack: Acknowledgement): Refusal {
    const index = batch.indexOf(ack.seq);
    const subject = index === null ? null : batch.subjects[index]!;
    const key = subject && ack.offset !== null ? batch.elementKeyAt(subject, ack.offset) : null;
    const what = subject ? `${subject.family} ${subject.what}` : 'the transaction';
    return {
      errno: ack.errno,
      code: errnoName(ack.errno),
      message: `${what}: ${errnoName(ack.errno)}${ack.text ? ` (${ack.text})` : ''}`,
      family: subject?.family ?? null,
      set: subject?.set ?? null,
      key,
      index,
    };
  }

  /** The generation of the ruleset of this network namespace; every commit that changes something adds 1. */
  generation(): number {
    let generation: number | undefined;
    this.#ask(
      'get generation',
      NFT_MSG.getGen,
      NLM_F_ACK,
      0,
      () => {},
      (m) => {
        generation = new Attributes(m.buffer, m.start + 4, m.end).u32(1);
      },
    );
    if (generation === undefined) throw new NetlinkError('get generation', 5);
    return generation;
  }

  /** Names and userdata of all tables of the two families. @throws InterruptedDump when others change them all the time */
  tables(): { family: Family; name: string; userdata: string }[] {
    return FAMILIES.flatMap((family) => {
      for (let attempt = 1; ; attempt++) {
        const out: { family: Family; name: string; userdata: string }[] = [];
        try {
          this.#dump(
            'list tables',
            NFT_MSG.getTable,
            family,
            () => {},
            (a) => {
              out.push({ family, name: a.text(1) ?? '', userdata: a.bytes(6) ?? '' });
            },
          );
          return out;
        } catch (error) {
          if (!(error instanceof InterruptedDump) || attempt >= LIST_ATTEMPTS) throw error;
        }
      }
    });
  }

  chains(family: Family, table: string): KernelChain[] {
    const out: KernelChain[] = [];
    this.#dump(
      'list chains',
      NFT_MSG.getChain,
      family,
      () => {},
      (a) => {
        if (a.text(1) === table) out.push(chainOf(a));
      },
    );
    return out;
  }

  /** Rules by chain, in order. */
  rules(family: Family, table: string): Map<string, Expression[][]> {
    const out = new Map<string, Expression[][]>();
    const select = (w: MessageWriter): void => w.attrString(1, table);
    this.#dump('list rules', NFT_MSG.getRule, family, select, (a) => {
      if (a.text(1) !== table) return;
      const chain = a.text(2) ?? '';
      const at = a.range(4);
      const rules = out.get(chain) ?? [];
      if (rules.length === 0) out.set(chain, rules);
      rules.push(at ? readExpressions(a.buffer, at[0], at[1]) : []);
    });
    return out;
  }

  /** The base chains of all tables and families, with turns for the event loop. @throws InterruptedDump */
  async baseChains(): Promise<KernelBaseChain[]> {
    const seq = this.#start(NFT_MSG.getChain, NLM_F_DUMP, null);
    this.#request.endMessage();
    const out: KernelBaseChain[] = [];
    const consistent = await this.#dumpInTurns('list base chains', seq, (m) => {
      const a = new Attributes(m.buffer, m.start + 4, m.end);
      if (!a.has(CHAIN_HOOK)) return;
      const protocol = m.buffer[m.start]!;
      out.push({ ...chainOf(a), protocol, table: a.text(1) ?? '', drops: a.u32(CHAIN_POLICY) === VERDICT.drop });
    });
    if (!consistent) throw new InterruptedDump();
    return out;
  }

  /** Calls `visit` for each chain of all tables of a family, with turns for the event loop. @throws InterruptedDump */
  async eachChain(family: Family, visit: (table: string, chain: KernelChain) => void): Promise<void> {
    const seq = this.#start(NFT_MSG.getChain, NLM_F_DUMP, family);
    this.#request.endMessage();
    const consistent = await this.#dumpInTurns('list chains', seq, (m) => {
      const a = new Attributes(m.buffer, m.start + 4, m.end);
      visit(a.text(1) ?? '', chainOf(a));
    });
    if (!consistent) throw new InterruptedDump();
  }

  /**
   * The rules of one chain in order, none if the chain does not exist: the way to read tables of many chains, because a
   * dump of a table takes quadratic time. Turns for the event loop within long chains only.
   * @throws InterruptedDump
   */
  async chainRules(family: Family, table: string, chain: string, visit: (rule: KernelRule) => void): Promise<void> {
    const seq = this.#start(NFT_MSG.getRule, NLM_F_DUMP, family);
    this.#request.attrString(1, table);
    this.#request.attrString(2, chain);
    this.#request.endMessage();
    const consistent = await this.#dumpInTurns(`list rules of ${chain}`, seq, (m) => {
      const a = new Attributes(m.buffer, m.start + 4, m.end);
      const at = a.range(4);
      const expressions = at ? readExpressions(a.buffer, at[0], at[1]) : [];
      visit({ handle: Number(a.u64(RULE_HANDLE) ?? 0n), expressions });
    });
    if (!consistent) throw new InterruptedDump();
  }

  sets(family: Family, table: string): KernelSet[] {
    const out: KernelSet[] = [];
    const select = (w: MessageWriter): void => w.attrString(1, table);
    this.#dump('list sets', NFT_MSG.getSet, family, select, (a) => {
      if (a.text(1) !== table) return;
      out.push({
        name: a.text(2) ?? '',
        flags: a.u32(3) ?? 0,
        keyType: a.u32(4) ?? 0,
        keyLength: a.u32(5) ?? 0,
        dataType: a.u32(6),
        dataLength: a.u32(7),
        userdata: a.bytes(13) ?? '',
      });
    });
    return out;
  }

  /**
   * Calls `visit` for each element of a set, with turns for the event loop. Element dumps carry no interrupted flag; each message names the low bits of the generation it was made in instead.
   * @throws InterruptedDump when that is not `generation`.
   */
  async elements(
    family: Family,
    table: string,
    set: string,
    generation: number,
    visit: (element: Element) => void,
  ): Promise<void> {
    const seq = this.#start(NFT_MSG.getSetElem, NLM_F_DUMP, family);
    this.#request.attrString(1, table);
    this.#request.attrString(2, set);
    this.#request.endMessage();
    let interrupted = false;
    const consistent = await this.#dumpInTurns(`list elements of ${set}`, seq, (message) => {
      if (message.buffer.readUInt16BE(message.start + 2) !== (generation & 0xffff)) interrupted = true;
      visitElements(message, visit);
    });
    if (!consistent || interrupted) throw new InterruptedDump();
  }

  /** Reads the elements with these keys, one request per 400 keys. @returns false when one of them is missing. */
  async elementsByKey(
    family: Family,
    table: string,
    set: string,
    keys: readonly string[],
    visit: (e: Element) => void,
  ): Promise<boolean> {
    for (let from = 0; from < keys.length; from += 400) {
      const seq = this.#start(NFT_MSG.getSetElem, NLM_F_ACK, family);
      this.#request.attrString(1, table);
      this.#request.attrString(2, set);
      const list = this.#request.nest(3);
      for (const key of keys.slice(from, from + 400)) {
        const element = this.#request.nest(1);
        const nest = this.#request.nest(1);
        this.#request.attr(1, key);
        this.#request.endNest(nest);
        this.#request.endNest(element);
      }
      this.#request.endNest(list);
      this.#request.endMessage();
      try {
        await this.#dumpInTurns(`get elements of ${set}`, seq, (m) => visitElements(m, visit));
      } catch (error) {
        if (error instanceof NetlinkError && error.code === 'ENOENT') return false;
        throw error;
      }
    }
    return true;
  }

  /** Sends the finished request; gives the event loop a turn now and then. */
  async #dumpInTurns(name: string, seq: number, visit: (message: Message) => void): Promise<boolean> {
    const breather = new Breather();
    for (const end of this.socket.dumpInParts(name, this.#request.bytes(), seq, visit)) {
      if (end !== null) return end;
      if (breather.due) await breather.rest();
    }
    return false;
  }

  #start(type: number, flags: number, family: Family | null): number {
    // Its answer would be read together with the verdict, which then would never be seen.
    if (this.#committing) throw new Error('nf_tables is asked for something while a batch is being committed');
    this.#request.reset();
    const seq = this.socket.nextSeq();
    this.#request.startMessage((NFNL_SUBSYS_NFTABLES << 8) | type, NLM_F_REQUEST | flags, seq);
    this.#request.raw(nfgenmsg(family === null ? 0 : NFPROTO[family]));
    return seq;
  }

  #ask(
    name: string,
    type: number,
    flags: number,
    family: Family | 0,
    select: (w: MessageWriter) => void,
    visit: (m: Message) => void,
  ): void {
    const seq = this.#start(type, flags, family === 0 ? null : family);
    select(this.#request);
    this.#request.endMessage();
    if (!this.socket.dump(name, this.#request.bytes(), seq, visit)) throw new InterruptedDump();
  }

  #dump(
    name: string,
    type: number,
    family: Family,
    select: (w: MessageWriter) => void,
    visit: (a: Attributes) => void,
  ): void {
    this.#ask(name, type, NLM_F_DUMP, family, select, (m) => visit(new Attributes(m.buffer, m.start + 4, m.end)));
  }
}

function chainOf(a: Attributes): KernelChain {
  const hook = a.nested(CHAIN_HOOK);
  const base = hook ? `${a.text(7)}:${hook.u32(1)}:${(hook.u32(2) ?? 0) | 0}` : '';
  return { name: a.text(3) ?? '', base };
}

function echoedHandle(batch: Batch, message: Message, handles: Map<number, number>): void {
  const index = batch.indexOf(message.seq);
  const handle = new Attributes(message.buffer, message.start + 4, message.end).u64(RULE_HANDLE);
  if (index !== null && handle !== undefined) handles.set(index, Number(handle));
}
