// Rules of the nft family, over netlink.
import type { Family } from '../../native/ip.ts';
import { NftConnection } from '../../native/nftables/connection.ts';
import { NetlinkWriter, type WriteResult } from './netlink-writer.ts';
import { probeFamily } from './probe.ts';
import { isProxyChain } from './proxy-rules.ts';
import { type KernelRules, type ReadOptions, readRules } from './read.ts';
import type { RuleChanges } from './rule-changes.ts';
import type { RuleWriter } from './rule-writer.ts';

export class NetlinkRules implements RuleWriter {
  readonly variant = 'nft';
  readonly nft = new NftConnection();
  /** The generation that only our own commits lead to. */
  expectedGeneration = 0;
  readonly #writer: NetlinkWriter;
  readonly #wanted: ReadOptions['wanted'];

  /** @param options.wanted Chains to read besides the built-in ones; by default all that are a proxy's. */
  constructor(options: { limitBytes?: number; wanted?: ReadOptions['wanted'] } = {}) {
    this.#wanted = options.wanted ?? isProxyChain;
    this.#writer = new NetlinkWriter(this.nft, options);
  }

  probe(family: Family): Promise<string | null> {
    return probeFamily(this.nft, family);
  }

  read(family: Family): Promise<KernelRules> {
    return readRules(this.nft, family, { wanted: this.#wanted });
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
