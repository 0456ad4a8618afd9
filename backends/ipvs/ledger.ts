// What all Services together want of the kernel, and what a change of one of them touches. Pure.
import type { Family } from '../../native/ip.ts';
import type { Element } from '../../native/nftables/batch.ts';
import type { CompanionSet } from './companion-schema.ts';
import type { ServiceObjects, WantedServer } from './service-objects.ts';

/** Objects that a change may have made different. */
export interface Touched {
  /** Keys of virtual servers. */
  readonly servers: Set<string>;
  readonly addresses: Set<string>;
  /** Keys of elements. */
  readonly elements: Map<CompanionSet, Set<string>>;
}

/** Adds a key to those of a set. */
export function touch(elements: Touched['elements'], set: CompanionSet, key: string): void {
  const keys = elements.get(set);
  if (keys) keys.add(key);
  else elements.set(set, new Set([key]));
}

/** Values that several owners may want; the one who came first decides. */
class Claims<T> {
  readonly #claims = new Map<string, Map<string, T>>();

  set(key: string, owner: string, value: T): void {
    const owners = this.#claims.get(key);
    if (owners) owners.set(owner, value);
    else this.#claims.set(key, new Map([[owner, value]]));
  }

  delete(key: string, owner: string): void {
    const owners = this.#claims.get(key);
    if (owners?.delete(owner) && owners.size === 0) this.#claims.delete(key);
  }

  get(key: string): T | null {
    for (const value of this.#claims.get(key)?.values() ?? []) return value;
    return null;
  }

  owners(key: string): string[] {
    return [...(this.#claims.get(key)?.keys() ?? [])];
  }

  keys(): MapIterator<string> {
    return this.#claims.keys();
  }
}

/** Of one family. */
export class Ledger {
  readonly family: Family;
  readonly #services = new Map<string, ServiceObjects>();
  readonly #servers = new Claims<WantedServer>();
  readonly #addresses = new Claims<true>();
  readonly #elements = new Map<CompanionSet, Claims<Element>>();

  constructor(family: Family) {
    this.family = family;
  }

  /** Replaces what a Service (`namespace/name`) wants; null: nothing. @returns what its old and new objects concern. */
  set(service: string, objects: ServiceObjects | null): Touched {
    const touched: Touched = { servers: new Set(), addresses: new Set(), elements: new Map() };
    const old = this.#services.get(service);
    if (objects) this.#services.set(service, objects);
    else this.#services.delete(service);
    for (const key of old?.servers.keys() ?? []) {
      touched.servers.add(key);
      if (!objects?.servers.has(key)) this.#servers.delete(key, service);
    }
    for (const ip of old?.addresses ?? []) {
      touched.addresses.add(ip);
      if (!objects?.addresses.has(ip)) this.#addresses.delete(ip, service);
    }
    for (const [set, elements] of old?.elements ?? []) {
      for (const key of elements.keys()) {
        touch(touched.elements, set, key);
        if (!objects?.elements.get(set)?.has(key)) this.#elements.get(set)?.delete(key, service);
      }
    }
    if (objects) this.#claim(service, objects, touched);
    return touched;
  }

  #claim(service: string, objects: ServiceObjects, touched: Touched): void {
    for (const [key, server] of objects.servers) {
      touched.servers.add(key);
      this.#servers.set(key, service, server);
    }
    for (const ip of objects.addresses) {
      touched.addresses.add(ip);
      this.#addresses.set(ip, service, true);
    }
    for (const [set, elements] of objects.elements) {
      let claims = this.#elements.get(set);
      if (!claims) this.#elements.set(set, (claims = new Claims()));
      for (const [key, element] of elements) {
        touch(touched.elements, set, key);
        claims.set(key, service, element);
      }
    }
  }

  server(key: string): WantedServer | null {
    return this.#servers.get(key);
  }

  serverKeys(): MapIterator<string> {
    return this.#servers.keys();
  }

  /** The Service whose virtual server is in force. */
  ownerOfServer(key: string): string | null {
    return this.#servers.owners(key)[0] ?? null;
  }

  wantsAddress(ip: string): boolean {
    return this.#addresses.get(ip) !== null;
  }

  addresses(): MapIterator<string> {
    return this.#addresses.keys();
  }

  ownersOfAddress(ip: string): string[] {
    return this.#addresses.owners(ip);
  }

  element(set: CompanionSet, key: string): Element | null {
    return this.#elements.get(set)?.get(key) ?? null;
  }

  /** Everything, as if all of it had changed. */
  all(): Touched {
    const elements = [...this.#elements].map(([set, claims]) => [set, new Set(claims.keys())] as const);
    return {
      servers: new Set(this.#servers.keys()),
      addresses: new Set(this.#addresses.keys()),
      elements: new Map(elements),
    };
  }

  service(service: string): ServiceObjects | null {
    return this.#services.get(service) ?? null;
  }

  services(): MapIterator<[string, ServiceObjects]> {
    return this.#services.entries();
  }
}
