// What one Service needs in ipvs mode: virtual servers, addresses on the dummy interface, elements of the companion table.
import type { VirtualServer } from '../../native/ipvs/objects.ts';
import type { Element } from '../../native/nftables/batch.ts';
import type { Endpoint } from '../service-plan.ts';
import type { CompanionSet } from './companion-schema.ts';

/** A virtual server with the endpoints that shall be its real servers, all of weight 1 (V-15). */
export interface WantedServer {
  readonly server: VirtualServer;
  readonly endpoints: readonly Endpoint[];
}

export interface ServiceObjects {
  /** By `serverKey`. */
  readonly servers: ReadonlyMap<string, WantedServer>;
  /** Canonical addresses to bind to the dummy interface (V-7). Several Services may want the same one. */
  readonly addresses: ReadonlySet<string>;
  /** By set and key. Several Services may want the same element of `vips` and `hairpin`. */
  readonly elements: ReadonlyMap<CompanionSet, ReadonlyMap<string, Element>>;
}
