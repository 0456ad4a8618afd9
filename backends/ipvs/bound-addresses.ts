// The addresses of Services on the dummy interface, which make the kernel hand their packets to IPVS (V-6…V-9).
import { type Family, familyOf } from '../../native/ip.ts';
import { ADDRESS_FLAG } from '../../native/route/message.ts';
import type { RouteWriter } from '../../native/route/writer.ts';
import { IPVS_DEVICE, isLinkLocal } from './device.ts';

export type AddressFailures = ReadonlyMap<string, string>;

const isWhole = (ip: string, prefix: number): boolean => prefix === (familyOf(ip) === 'IPv4' ? 32 : 128);

export class BoundAddresses {
  readonly #route: RouteWriter;
  #index: number | null = null;
  #bound = new Set<string>();
  /** Bound by somebody else in such a way that the kernel may pick them as source of what goes elsewhere. */
  #preferred = new Set<string>();

  constructor(route: RouteWriter) {
    this.#route = route;
  }

  has(ip: string): boolean {
    return this.#bound.has(ip);
  }

  /** It is bound as it should be. */
  isRight(ip: string): boolean {
    return this.#bound.has(ip) && !this.#preferred.has(ip);
  }

  [Symbol.iterator](): SetIterator<string> {
    return this.#bound[Symbol.iterator]();
  }

  /** Index of the interface; null before `read`. */
  get index(): number | null {
    return this.#index;
  }

  /**
   * Creates the interface if it is missing, and reads what is bound. Link-local addresses are the kernel's own (V-9), those
   * with a network around them somebody else's.
   */
  read(): void {
    this.#index = this.#route.linkIndex(IPVS_DEVICE) ?? this.#route.createDummy(IPVS_DEVICE);
    const addresses = this.#route
      .addresses(this.#index)
      .filter(({ ip, prefix }) => isWhole(ip, prefix) && !isLinkLocal(ip));
    this.#bound = new Set(addresses.map(({ ip }) => ip));
    const preferred = addresses.filter((a) => a.family === 'IPv6' && !(a.flags & ADDRESS_FLAG.deprecated));
    this.#preferred = new Set(preferred.map(({ ip }) => ip));
  }

  ofFamily(family: Family): string[] {
    return [...this.#bound].filter((ip) => familyOf(ip) === family);
  }

  /** @returns why addresses could not be bound. */
  async bind(ips: readonly string[]): Promise<AddressFailures> {
    if (ips.length === 0) return new Map();
    const failures = await this.#route.addAddresses(this.#index!, ips);
    const failed = new Map(failures.map(({ ip, error }) => [ip, `address ${ip} on ${IPVS_DEVICE}: ${error.message}`]));
    for (const ip of ips) {
      if (failed.has(ip)) continue;
      this.#bound.add(ip);
      this.#preferred.delete(ip);
    }
    return failed;
  }

  async unbind(ips: readonly string[]): Promise<AddressFailures> {
    if (ips.length === 0) return new Map();
    const failures = await this.#route.deleteAddresses(this.#index!, ips);
    const failed = new Map(failures.map(({ ip, error }) => [ip, `address ${ip} on ${IPVS_DEVICE}: ${error.message}`]));
    for (const ip of ips) if (!failed.has(ip)) this.#bound.delete(ip);
    return failed;
  }
}
