// What the parts of the backend share.
import type { Family } from '../../native/ip.ts';
import type { NftConnection } from '../../native/nftables/connection.ts';
import type { BackendEvents } from '../backend.ts';
import type { Committer } from '../nft-table/committer.ts';
import type { NodeSettings } from '../service-plan.ts';
import type { ServiceTable } from './service-table.ts';

export interface BackendCore {
  readonly nft: NftConnection;
  readonly committer: Committer;
  readonly events: BackendEvents;
  /** What is applied, by family. */
  readonly tables: Map<Family, ServiceTable>;
  /** Settings in force. @throws Error before the start. */
  readonly settings: NodeSettings;
  /** Has elements deleted that only packets on their way could still need. */
  sweepLater(): void;
}
