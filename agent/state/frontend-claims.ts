// Who serves an address that two ServicePorts claim: the oldest Service wins (N-18). Kept per address, so that a change
// of one Service costs its own addresses and those who share them, nothing else.

import type { Frontend, Protocol } from '../../backends/service-plan.ts';
import { FAMILIES, type Family } from '../../native/ip.ts';
import { frontendsOf, type ServicePort, servicePorts } from '../plan/service-ports.ts';
import { objectLabel, type Problem, type Service } from './objects.ts';

interface Claimant {
  readonly service: string;
  readonly portName: string;
  readonly createdMs: number;
}

/** A Service whose plan changes because of who owns a frontend. */
export interface Reassigned {
  /** `namespace/name`. */
  readonly service: string;
  readonly family: Family;
}

export class FrontendClaims {
  readonly #allowExternalIPs: boolean;
  /** Claimants of an address, sorted; a lone one, which is the rule, needs no list. */
  readonly #claims = new Map<string, Claimant | Claimant[]>();
  /** Contested addresses, and Services that left one, since the last `takeContesting`. */
  readonly #contested = new Set<string>();
  readonly #left = new Set<string>();

  constructor(options: { allowExternalIPs: boolean }) {
    this.#allowExternalIPs = options.allowExternalIPs;
  }

  /**
   * A Service appeared (`before` null), changed, or went away (`after` null). Returns the Services that gained or lost
   * a frontend by it, the Service itself among them if it shares an address.
   */
  replace(before: Service | null, after: Service | null): Reassigned[] {
    const touched = new Map<string, { family: Family; owner: Claimant | undefined; contested: boolean }>();
    const touch = (key: string, family: Family) => {
      if (touched.has(key)) return;
      touched.set(key, { family, owner: this.#owner(key), contested: Array.isArray(this.#claims.get(key)) });
    };
    if (before !== null) {
      this.#eachClaim(before, (key, claimant, family) => {
        touch(key, family);
        this.#remove(key, claimant);
      });
    }
    if (after !== null) {
      this.#eachClaim(after, (key, claimant, family) => {
        touch(key, family);
        this.#add(key, claimant);
      });
    }
    const self = (before ?? after)?.key;
    const out: Reassigned[] = [];
    for (const [key, { family, owner, contested }] of touched) {
      const unsettled = contested || Array.isArray(this.#claims.get(key)) || this.#contested.has(key);
      if (self !== undefined && unsettled) {
        // Among several events between two syncs the Service may end up the same, but no longer own what it did.
        out.push({ service: self, family });
        this.#contested.add(key);
        this.#left.add(self);
      }
      const now = this.#owner(key);
      if (owner?.service === now?.service && owner?.portName === now?.portName) continue;
      for (const claimant of [owner, now]) {
        if (claimant !== undefined && claimant.service !== self) out.push({ service: claimant.service, family });
      }
    }
    return out;
  }

  /** The Services whose `conflicts` may have changed since the last call. */
  takeContesting(): Set<string> {
    const out = new Set(this.#left);
    for (const key of this.#contested) {
      for (const { service } of [this.#claims.get(key) ?? []].flat()) out.add(service);
    }
    this.#left.clear();
    this.#contested.clear();
    return out;
  }

  /** Whether the ServicePort, which must have claimed the frontend, owns it. */
  owns(port: ServicePort, frontend: Frontend): boolean {
    const owner = this.#owner(claimKey(port.family, port.protocol, frontend));
    return owner !== undefined && owner.service === port.service && owner.portName === port.portName;
  }

  /** One Problem for each frontend that the Service claims and another ServicePort owns. */
  conflicts(service: Service): Problem[] {
    const out = new Map<string, Problem>();
    for (const family of FAMILIES) {
      for (const [i, port] of servicePorts(service, family).entries()) {
        for (const frontend of frontendsOf(port, { allowExternalIPs: this.#allowExternalIPs })) {
          if (this.owns(port, frontend)) continue;
          const owner = this.#owner(claimKey(family, port.protocol, frontend));
          if (owner === undefined) continue;
          const field = FIELDS[frontend.kind](service.ports[i]!.index);
          const what = `${frontend.ip === null ? 'node port' : frontend.ip} ${frontend.port}/${port.protocol}`;
          const message = `${what} of ${nameOf(port)} belongs to ${nameOf(owner)}, which is older`;
          const object = objectLabel('Service', service.namespace, service.name);
          out.set(`${field} ${message}`, { object, field, message }); // a node port is lost in both families alike
        }
      }
    }
    return [...out.values()];
  }

  #eachClaim(service: Service, visit: (key: string, claimant: Claimant, family: Family) => void): void {
    for (const family of FAMILIES) {
      for (const port of servicePorts(service, family)) {
        const claimant = { service: service.key, portName: port.portName, createdMs: service.createdMs };
        const keys = frontendsOf(port, { allowExternalIPs: this.#allowExternalIPs }).map((frontend) =>
          claimKey(family, port.protocol, frontend),
        );
        // Several kinds of frontend of one ServicePort may share an address (S-46): one claim.
        for (const key of new Set(keys)) visit(key, claimant, family);
      }
    }
  }

  #owner(key: string): Claimant | undefined {
    const claimants = this.#claims.get(key);
    return Array.isArray(claimants) ? claimants[0] : claimants;
  }

  #add(key: string, claimant: Claimant): void {
    const claimants = this.#claims.get(key);
    if (claimants === undefined) {
      this.#claims.set(key, claimant);
      return;
    }
    const list = Array.isArray(claimants) ? claimants : [claimants];
    const at = list.findIndex((other) => precedence(claimant, other) < 0);
    list.splice(at < 0 ? list.length : at, 0, claimant);
    this.#claims.set(key, list);
  }

  #remove(key: string, { service, portName }: Claimant): void {
    const claimants = this.#claims.get(key);
    if (!Array.isArray(claimants)) {
      this.#claims.delete(key);
      return;
    }
    const left = claimants.filter((claimant) => claimant.service !== service || claimant.portName !== portName);
    this.#claims.set(key, left.length === 1 ? left[0]! : left);
  }
}

const FIELDS: Record<Frontend['kind'], (index: number) => string> = {
  clusterIP: () => 'spec.clusterIP',
  externalIP: () => 'spec.externalIPs',
  loadBalancer: () => 'status.loadBalancer.ingress',
  nodePort: (index) => `spec.ports[${index}].nodePort`,
};

function nameOf({ service, portName }: { service: string; portName: string }): string {
  return portName === '' ? service : `${service}:${portName}`;
}

/** A node port is claimed per family, an IP belongs to one anyway. */
function claimKey(family: Family, protocol: Protocol, { ip, port }: Frontend): string {
  return [ip ?? family, protocol, port].join(' ');
}

/** Oldest first, then by name; unknown age counts as youngest. */
function precedence(a: Claimant, b: Claimant): number {
  if (a.createdMs !== b.createdMs) return a.createdMs < b.createdMs ? -1 : 1;
  if (a.service !== b.service) return a.service < b.service ? -1 : 1;
  return a.portName < b.portName ? -1 : 1;
}
