// EndpointSlices by name and by Service, and what their changes since the last sync ask for (E-9, E-45, E-47, E-48).
import { FAMILIES, type Family } from '../../native/ip.ts';
import type { EndpointSlice } from './objects.ts';

export interface SliceChanges {
  /** Services (`namespace/name`) by family with a changed slice (E-45). */
  readonly services: Readonly<Record<Family, ReadonlySet<string>>>;
  /** Those of them that had or have UDP endpoints (E-47). */
  readonly udp: Readonly<Record<Family, ReadonlySet<string>>>;
  /** Milliseconds since the epoch (E-48). */
  readonly triggerTimesMs: Readonly<Record<Family, readonly number[]>>;
}

interface Pending {
  readonly hadUdp: boolean;
  triggerTimesMs: number[];
}

export class SliceIndex {
  readonly #startedMs: number;
  readonly #slices = new Map<string, EndpointSlice>();
  /** Slices of a Service, sorted by name, so that nothing depends on the order of arrival. */
  readonly #byService: Record<Family, Map<string, readonly EndpointSlice[]>> = { IPv4: new Map(), IPv6: new Map() };
  readonly #pending: Record<Family, Map<string, Pending>> = { IPv4: new Map(), IPv6: new Map() };
  /** Events of slices that can be used, whether or not they changed anything (P-81). */
  events = 0;
  /** Those of them that were changes and wait for a sync. */
  pendingChanges = 0;

  /** `startedMs`: start of the agent, milliseconds since the epoch; older trigger times do not count (E-48). */
  constructor(options: { startedMs: number }) {
    this.#startedMs = options.startedMs;
  }

  of(service: string, family: Family): readonly EndpointSlice[] {
    return this.#byService[family].get(service) ?? [];
  }

  /** Puts a slice in (`slice` null: takes it out). Returns whether that is a change (E-45). */
  replace(namespace: string, name: string, slice: EndpointSlice | null): boolean {
    const key = `${namespace}/${name}`;
    const old = this.#slices.get(key);
    if (old === undefined && slice === null) return false;
    this.events++;
    if (old !== undefined && slice !== null && sameSlice(old, slice)) return false;
    this.pendingChanges++;
    const moved = old !== undefined && (slice?.service !== old.service || slice?.family !== old.family);
    if (moved) {
      this.#touch(old).triggerTimesMs = [];
      this.#place(old, null);
    }
    if (slice === null) {
      this.#slices.delete(key);
      return true;
    }
    const pending = this.#touch(slice);
    const time = slice.triggerTimeMs;
    if (time !== null && time >= this.#startedMs) pending.triggerTimesMs.push(time);
    this.#slices.set(key, slice);
    this.#place(moved ? undefined : old, slice);
    return true;
  }

  hasChanges(): boolean {
    return FAMILIES.some((family) => this.#pending[family].size > 0);
  }

  takeChanges(): SliceChanges {
    const services = { IPv4: new Set<string>(), IPv6: new Set<string>() };
    const udp = { IPv4: new Set<string>(), IPv6: new Set<string>() };
    const triggerTimesMs = { IPv4: [] as number[], IPv6: [] as number[] };
    for (const family of FAMILIES) {
      for (const [service, pending] of this.#pending[family]) {
        services[family].add(service);
        if (pending.hadUdp || hasUdp(this.of(service, family))) udp[family].add(service);
        for (const time of pending.triggerTimesMs) triggerTimesMs[family].push(time);
      }
      this.#pending[family].clear();
    }
    this.pendingChanges = 0;
    return { services, udp, triggerTimesMs };
  }

  /** Notes a change of the slice's Service; before the slice itself changes, to see what was. */
  #touch({ service, family }: EndpointSlice): Pending {
    let pending = this.#pending[family].get(service);
    if (pending === undefined) {
      pending = { hadUdp: hasUdp(this.of(service, family)), triggerTimesMs: [] };
      this.#pending[family].set(service, pending);
    }
    return pending;
  }

  #place(old: EndpointSlice | undefined, slice: EndpointSlice | null): void {
    const { service, family } = (slice ?? old)!;
    const rest = this.of(service, family).filter((other) => other !== old);
    const next = slice === null ? rest : [...rest, slice].sort((a, b) => (a.name < b.name ? -1 : 1));
    if (next.length === 0) this.#byService[family].delete(service);
    else this.#byService[family].set(service, next);
  }
}

function hasUdp(slices: readonly EndpointSlice[]): boolean {
  return slices.some((slice) => slice.ports.some((port) => port.protocol === 'UDP' && port.endpoints.length > 0));
}

/** A new resourceVersion is a change whatever it brings; manifests have none, there the content decides. */
function sameSlice(a: EndpointSlice, b: EndpointSlice): boolean {
  return a.resourceVersion === b.resourceVersion && JSON.stringify(a) === JSON.stringify(b);
}
