// Deletes UDP conntrack entries that lead to back ends which are gone (S-80…S-85), asking the kernel only for entries
// of the Services that changed.

import { ConntrackConnection } from '../../native/conntrack/connection.ts';
import type { Family } from '../../native/ip.ts';
import type { Log } from '../log.ts';
import { staleEntries, type UdpServicePort, udpServicePorts } from '../plan/conntrack-cleanup.ts';
import type { State } from '../state/state.ts';
import { type Clock, systemClock } from './clock.ts';

/** Above this many destinations one dump of all UDP entries is cheaper than one for each. */
const DESTINATIONS_ABOVE_WHICH_ALL = 16;

export interface ConntrackRound {
  readonly family: Family;
  readonly seconds: number;
  readonly deleted: number;
}

export interface ConntrackCleanerOptions {
  readonly state: State;
  readonly log: Log;
  /** Told of each round that was done (P-81). */
  readonly onRound?: (round: ConntrackRound) => void;
  readonly clock?: Pick<Clock, 'monotonicMs'>;
  readonly connect?: () => Pick<ConntrackConnection, 'listUdp' | 'listUdpTo' | 'delete' | 'close'>;
}

export class ConntrackCleaner {
  readonly #options: ConntrackCleanerOptions;
  /** Entries deleted since the start. */
  deleted = 0;

  constructor(options: ConntrackCleanerOptions) {
    this.#options = options;
  }

  /** One round for these Services of a family. Failures are logged: the round is skipped (S-85). */
  clean(family: Family, services: Iterable<string>): void {
    const { state, log, clock = systemClock, onRound } = this.#options;
    const began = clock.monotonicMs();
    const ports = [...services].flatMap((key) =>
      udpServicePorts({ ...state.planInput(key, family), service: state.service(key) }),
    );
    if (ports.length === 0) return;
    try {
      const deleted = this.#round(family, ports);
      this.deleted += deleted;
      onRound?.({ family, deleted, seconds: (clock.monotonicMs() - began) / 1000 });
      if (deleted > 0) log.info('deleted stale UDP conntrack entries', { family, entries: deleted });
    } catch (err) {
      log.warn('cannot clean up UDP conntrack entries', { family, err });
    }
  }

  #round(family: Family, ports: readonly UdpServicePort[]): number {
    const connection = (this.#options.connect ?? (() => new ConntrackConnection()))();
    try {
      const destinations = ports.flatMap(({ frontends, nodePort }) => [
        ...frontends.map((frontend) => {
          const [dst, dport] = frontend.split(' ') as [string, string];
          return { family, dst, dport: Number(dport) };
        }),
        ...(nodePort === 0 ? [] : [{ family, dport: nodePort }]),
      ]);
      const listings =
        destinations.length > DESTINATIONS_ABOVE_WHICH_ALL
          ? [connection.listUdp({ family })]
          : destinations.map((destination) => connection.listUdpTo(destination));
      const listed = listings.flatMap((listing) =>
        listing.entries.map((entry) => ({ ...entry, protocol: 'UDP', entry })),
      );
      // A node port's listing and an address's may hold the same entry.
      const stale = new Map(staleEntries(ports, listed).map(({ entry }) => [JSON.stringify(entry), entry]));
      return connection.delete([...stale.values()]);
    } finally {
      connection.close();
    }
  }
}
