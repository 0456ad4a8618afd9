// What the kernel refused, said of the Services that wanted it.
import { type Family, familyOf } from '../../native/ip.ts';
import type { BackendEvents, RefusedService } from '../backend.ts';
import type { AddressFailures } from './bound-addresses.ts';
import type { Ledger } from './ledger.ts';
import type { ServerOutcome } from './virtual-servers.ts';

export class Refusals {
  readonly #ledgers: ReadonlyMap<Family, Ledger>;
  readonly #events: BackendEvents;
  readonly #refused = new Map<string, RefusedService>();

  /** What no Service wants, such as removals, goes to `events`. */
  constructor(ledgers: ReadonlyMap<Family, Ledger>, events: BackendEvents) {
    this.#ledgers = ledgers;
    this.#events = events;
  }

  /** One for each Service and family, with the first reason. */
  get list(): RefusedService[] {
    return [...this.#refused.values()];
  }

  service(service: string, family: Family, message: string): void {
    if (service === '') {
      this.#events.error('cannot remove what no Service wants', new Error(message));
      return;
    }
    const key = `${family} ${service}`;
    if (!this.#refused.has(key)) this.#refused.set(key, { service, family, message });
  }

  servers({ failures }: ServerOutcome): void {
    for (const [key, message] of failures) {
      const owner = [...this.#ledgers.values()].find((ledger) => ledger.server(key));
      if (owner) this.service(owner.ownerOfServer(key)!, owner.family, message);
      else this.#events.error('cannot remove a virtual server', new Error(message));
    }
  }

  addresses(failures: AddressFailures): void {
    for (const [ip, message] of failures) {
      const family = familyOf(ip);
      const owners = this.#ledgers.get(family)?.ownersOfAddress(ip) ?? [];
      for (const service of owners) this.service(service, family, message);
      if (owners.length === 0) this.#events.error('cannot remove an address', new Error(message));
    }
  }
}
