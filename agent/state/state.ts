// All objects the agent knows, and what changed since the last sync. Serves both families; every event costs what it
// changes, never a walk over all Services.
import { FAMILIES, type Family } from '../../native/ip.ts';
import type { OwnsFrontend } from '../plan/plan-service.ts';
import { sameServicePorts } from '../plan/service-ports.ts';
import type { Kind } from '../source/source.ts';
import { asObject } from './fields.ts';
import { FrontendClaims } from './frontend-claims.ts';
import {
  type EndpointSlice,
  type Node,
  objectLabel,
  type Parsed,
  type Problem,
  parseEndpointSlice,
  parseNode,
  parseService,
  parseServiceCIDR,
  type Service,
  type ServiceCIDR,
} from './objects.ts';
import { ProblemLog } from './problem-log.ts';
import { contradictions } from './slice-contradictions.ts';
import { type SliceChanges, SliceIndex } from './slice-index.ts';

/** What a sync must do. */
export interface Changes {
  /** Services (`namespace/name`) to plan again, with the families concerned. Some may be gone or may never have existed. */
  readonly services: ReadonlyMap<string, readonly Family[]>;
  /**
   * Services whose stale UDP conntrack entries are to be deleted; null for a family without a request (E-47). Holds
   * also Services whose own change requested nothing and waited for the next round.
   */
  readonly conntrack: Readonly<Record<Family, ReadonlySet<string> | null>>;
  /** The zone of this node: all Services must be planned again (E-41). */
  readonly zoneChanged: boolean;
  readonly nodeChanged: boolean;
  readonly serviceCidrsChanged: boolean;
  /** When the applied slice changes happened, milliseconds since the epoch (E-48). */
  readonly triggerTimesMs: Readonly<Record<Family, readonly number[]>>;
  /** Of each kind, that of the last object that was added or changed. */
  readonly resourceVersions: Readonly<Partial<Record<Kind, string>>>;
}

/** For metrics (P-81). Events are counted since the start, whether or not they changed anything. */
export interface EventCounts {
  readonly serviceEvents: number;
  readonly sliceEvents: number;
  /** Services with events that no sync has taken. */
  readonly servicesPending: number;
  /** Changes of slices that no sync has taken. */
  readonly slicesPending: number;
}

export interface StateOptions {
  /** This node's name, normalised (P-9). */
  nodeName: string;
  /** Start of the agent, milliseconds since the epoch (E-48). */
  startedMs: number;
  /** Feature gate AllowServiceExternalIPs (S-10). */
  allowExternalIPs: boolean;
  /** Called with the Problems an object did not have before; all are of one object. */
  onProblems?: (problems: readonly Problem[]) => void;
}

export class State {
  readonly nodeName: string;
  readonly allowExternalIPs: boolean;
  readonly #services = new Map<string, Service>();
  readonly #slices: SliceIndex;
  readonly #serviceCidrs = new Map<string, ServiceCIDR>();
  readonly #claims: FrontendClaims;
  readonly #problems: ProblemLog;
  /** Labels of slices with contradictions, by family and Service. */
  readonly #contradicting = new Map<string, readonly string[]>();
  readonly #resourceVersions: Partial<Record<Kind, string>> = {};
  #node: Node | null = null;
  #zoneAtLastTake = '';
  #nodeChanged = false;
  #serviceCidrsChanged = false;
  #serviceEvents = 0;
  /** Services with unapplied events, as of the last sync (E-46). */
  readonly #before = new Map<string, Service | null>();
  /** Services that gained or lost a frontend by what happened to others. */
  readonly #reassigned: Record<Family, Set<string>> = { IPv4: new Set(), IPv6: new Set() };
  /** Changed Services with UDP ports that no conntrack round has looked at. */
  readonly #conntrackDue: Record<Family, Set<string>> = { IPv4: new Set(), IPv6: new Set() };

  constructor(options: StateOptions) {
    this.nodeName = options.nodeName;
    this.allowExternalIPs = options.allowExternalIPs;
    this.#slices = new SliceIndex({ startedMs: options.startedMs });
    this.#claims = new FrontendClaims({ allowExternalIPs: options.allowExternalIPs });
    this.#problems = new ProblemLog({ onProblems: options.onProblems ?? (() => {}) });
  }

  /** An object was added or changed; raw JSON. Returns whether there is something to sync because of it. */
  apply(kind: Kind, raw: unknown): boolean {
    const { resourceVersion } = asObject(asObject(raw)?.metadata) ?? {};
    if (typeof resourceVersion === 'string') this.#resourceVersions[kind] = resourceVersion;
    switch (kind) {
      case 'Service': {
        const parsed = this.#noteProblems(kind, parseService(raw));
        return this.#replaceService(`${parsed.namespace}/${parsed.name}`, parsed.object);
      }
      case 'EndpointSlice': {
        const parsed = this.#noteProblems(kind, parseEndpointSlice(raw, { nodeName: this.nodeName }));
        return this.#slices.replace(parsed.namespace, parsed.name, parsed.object);
      }
      case 'Node':
        return this.#replaceNode(parseNode(raw));
      case 'ServiceCIDR': {
        const parsed = this.#noteProblems(kind, parseServiceCIDR(raw));
        return this.#replaceServiceCidr(parsed.name, parsed.object);
      }
    }
  }

  /** An object is gone; unknown ones are fine. Returns whether there is something to sync because of it. */
  remove(kind: Kind, namespace: string, name: string): boolean {
    this.#problems.clear(objectLabel(kind, namespace, name));
    switch (kind) {
      case 'Service':
        return this.#replaceService(`${namespace}/${name}`, null);
      case 'EndpointSlice':
        return this.#slices.replace(namespace, name, null);
      case 'Node':
        return false; // its last state stays in force (E-41, P-13, P-47)
      case 'ServiceCIDR':
        return this.#replaceServiceCidr(name, null);
    }
  }

  hasChanges(): boolean {
    return (
      this.#before.size > 0 ||
      FAMILIES.some((family) => this.#reassigned[family].size > 0) ||
      this.#slices.hasChanges() ||
      this.#nodeChanged ||
      this.#serviceCidrsChanged
    );
  }

  /** Everything that changed since the last call. It is told once: a sync that fails must keep what it did not do. */
  takeChanges(): Changes {
    const slices = this.#slices.takeChanges();
    const services = new Map<string, Family[]>();
    const conntrack: Record<Family, Set<string> | null> = { IPv4: null, IPv6: null };
    for (const family of FAMILIES) {
      const dirty = new Set([...slices.services[family], ...this.#reassigned[family]]);
      for (const [key, before] of this.#before) {
        if (!sameServicePorts(before, this.#services.get(key) ?? null, family)) dirty.add(key);
      }
      const due = this.#conntrackDue[family];
      for (const key of dirty) {
        services.set(key, [...(services.get(key) ?? []), family]);
        if (this.#services.get(key)?.ports.some((port) => port.protocol === 'UDP')) due.add(key);
        else due.delete(key);
      }
      if (slices.udp[family].size > 0) {
        conntrack[family] = new Set(due);
        due.clear();
      }
      this.#reassigned[family].clear();
    }
    this.#before.clear();
    this.#noteConflicts();
    this.#noteContradictions(slices.services);
    const zone = this.zone;
    const changes: Changes = {
      services,
      conntrack,
      zoneChanged: zone !== this.#zoneAtLastTake,
      nodeChanged: this.#nodeChanged,
      serviceCidrsChanged: this.#serviceCidrsChanged,
      triggerTimesMs: slices.triggerTimesMs,
      resourceVersions: { ...this.#resourceVersions },
    };
    this.#zoneAtLastTake = zone;
    this.#nodeChanged = false;
    this.#serviceCidrsChanged = false;
    return changes;
  }

  service(key: string): Service | null {
    return this.#services.get(key) ?? null;
  }

  /** For full passes: all Services known. */
  serviceKeys(): IterableIterator<string> {
    return this.#services.keys();
  }

  /** Slices of a Service in a family, sorted by name. */
  slices(service: string, family: Family): readonly EndpointSlice[] {
    return this.#slices.of(service, family);
  }

  /** This node as last seen, null before; a deletion does not take it away. */
  get node(): Node | null {
    return this.#node;
  }

  /** Zone of this node; '' when unknown (E-38). */
  get zone(): string {
    return this.#node?.zone ?? '';
  }

  /** Canonical CIDRs of all ServiceCIDR objects, sorted (S-77). */
  serviceCidrs(family: Family): readonly string[] {
    const all = new Set<string>();
    for (const object of this.#serviceCidrs.values()) for (const cidr of object.cidrs[family]) all.add(cidr);
    return [...all].sort();
  }

  /** Whether a ServicePort owns a frontend it claims (N-18). */
  readonly owns: OwnsFrontend = (port, frontend) => this.#claims.owns(port, frontend);

  /** What the plan functions need to know of a Service in a family; add the node's IP. */
  planInput(service: string, family: Family) {
    return {
      service: this.service(service),
      family,
      slices: this.slices(service, family),
      nodeName: this.nodeName,
      zone: this.zone,
      allowExternalIPs: this.allowExternalIPs,
      owns: this.owns,
    };
  }

  /** Problems the objects have now; conflicts between objects as of the last `takeChanges`. */
  problems(): Problem[] {
    return this.#problems.list();
  }

  eventCounts(): EventCounts {
    return {
      serviceEvents: this.#serviceEvents,
      sliceEvents: this.#slices.events,
      servicesPending: this.#before.size,
      slicesPending: this.#slices.pendingChanges,
    };
  }

  #noteProblems<T>(kind: Kind, parsed: Parsed<T>): Parsed<T> {
    this.#problems.set(objectLabel(kind, parsed.namespace, parsed.name), 'parse', parsed.problems);
    return parsed;
  }

  #replaceService(key: string, next: Service | null): boolean {
    const old = this.service(key);
    if (old === null && next === null) return false;
    this.#serviceEvents++;
    const same = old !== null && next !== null && old.createdMs === next.createdMs && sameInAllFamilies(old, next);
    if (next === null) this.#services.delete(key);
    else this.#services.set(key, next);
    if (same) return false;
    if (!this.#before.has(key)) this.#before.set(key, old);
    const reassigned = this.#claims.replace(old, next);
    for (const { service, family } of reassigned) this.#reassigned[family].add(service);
    return reassigned.length > 0 || !sameInAllFamilies(old, next);
  }

  /** Left to `takeChanges`, so that objects arriving in any order name the final owner, and once. */
  #noteConflicts(): void {
    for (const key of this.#claims.takeContesting()) {
      const service = this.service(key);
      const [namespace = '', name = ''] = key.split('/');
      const conflicts = service === null ? [] : this.#claims.conflicts(service);
      this.#problems.set(objectLabel('Service', namespace, name), 'conflict', conflicts);
    }
  }

  /** Of the slices of these Services. */
  #noteContradictions(dirty: SliceChanges['services']): void {
    const found = new Map<string, readonly Problem[]>();
    const before = new Set<string>();
    for (const family of FAMILIES) {
      for (const service of dirty[family]) {
        const key = `${family} ${service}`;
        for (const label of this.#contradicting.get(key) ?? []) before.add(label);
        const own = contradictions(this.slices(service, family));
        if (own.size > 0) this.#contradicting.set(key, [...own.keys()]);
        else this.#contradicting.delete(key);
        for (const [label, problems] of own) found.set(label, problems);
      }
    }
    for (const label of before) if (!found.has(label)) this.#problems.set(label, 'conflict', []);
    for (const [label, problems] of found) this.#problems.set(label, 'conflict', problems);
  }

  #replaceNode(parsed: Parsed<Node>): boolean {
    if (parsed.name !== this.nodeName) return false;
    const { object } = this.#noteProblems('Node', parsed);
    if (object === null || JSON.stringify(object) === JSON.stringify(this.#node)) return false;
    this.#node = object;
    this.#nodeChanged = true;
    return true;
  }

  #replaceServiceCidr(name: string, next: ServiceCIDR | null): boolean {
    const old = this.#serviceCidrs.get(name) ?? null;
    if (JSON.stringify(old) === JSON.stringify(next)) return false;
    if (next === null) this.#serviceCidrs.delete(name);
    else this.#serviceCidrs.set(name, next);
    this.#serviceCidrsChanged = true;
    return true;
  }
}

function sameInAllFamilies(a: Service | null, b: Service | null): boolean {
  return FAMILIES.every((family) => sameServicePorts(a, b, family));
}
