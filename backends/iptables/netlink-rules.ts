// Rules of the nft family, over netlink.
import type { Family } from '../../native/ip.ts';
import { NftConnection } from '../../native/nftables/connection.ts';
import { TOP_CHAINS } from './fixed-rules.ts';
import { isOwnedChain } from './names.ts';
import { NetlinkWriter, type WriteResult } from './netlink-writer.ts';
import { probeFamily } from './probe.ts';
import { type KernelRules, readRules } from './read.ts';
import type { Table } from './rule.ts';
import type { RuleChanges } from './rule-changes.ts';
import type { RuleWriter } from './rule-writer.ts';

/** Whether a chain is ours by its name (I-1, I-2). */
export function isOurChain(table: Table, chain: string): boolean {
  return TOP_CHAINS[table].includes(chain) || (table === 'nat' && isOwnedChain(chain));
}

export class NetlinkRules implements RuleWriter {
  readonly variant = 'nft';
  readonly nft = new NftConnection();
  /** The generation that only our own commits lead to. */
  expectedGeneration = 0;
  readonly #writer: NetlinkWriter;

  constructor(options: { limitBytes?: number } = {}) {
    this.#writer = new NetlinkWriter(this.nft, options);
  }

  probe(family: Family): Promise<string | null> {
    return probeFamily(this.nft, family);
  }

  read(family: Family): Promise<KernelRules> {
    return readRules(this.nft, family, { wanted: isOurChain });
  }

  async commit(changes: readonly RuleChanges[], generation?: number): Promise<WriteResult> {
    const result = await this.#writer.commit(changes, generation);
    this.expectedGeneration = this.nft.generation();
    return result;
  }

  close(): void {
    this.nft.close();
  }
}
