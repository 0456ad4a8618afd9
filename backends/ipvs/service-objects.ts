// What one Service needs in ipvs mode: virtual servers, addresses on the dummy interface, elements of the companion table.
// Pure.
import { type Family, ipBytes } from '../../native/ip.ts';
import { SERVER_FLAG, serverKey, type VirtualServer } from '../../native/ipvs/objects.ts';
import type { Element } from '../../native/nftables/batch.ts';
import { allowedSources, frontendKey, hairpinKey, portKey, protocolPortKey } from '../nft-table/keys.ts';
import {
  type Endpoint,
  type FamilySettings,
  type Frontend,
  type NodeSettings,
  type ServicePlan,
  type ServicePortPlan,
  servicePortName,
} from '../service-plan.ts';
import type { CompanionSet } from './companion-schema.ts';
import type { IpvsSettings } from './settings.ts';

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

/** @throws Error when the settings lack the plan's family, or do not name each address of node ports. */
export function serviceObjects(
  plan: ServicePlan,
  settings: NodeSettings,
  ipvs: Pick<IpvsSettings, 'scheduler'>,
): ServiceObjects {
  const family = settings.families[plan.family];
  if (family === undefined) throw new Error(`no settings of ${plan.family}`);
  const objects = new Builder(plan, family, ipvs.scheduler);
  for (const port of plan.ports) objects.addPort(port);
  objects.addHealthCheck();
  return objects;
}

class Builder implements ServiceObjects {
  readonly servers = new Map<string, WantedServer>();
  readonly addresses = new Set<string>();
  readonly elements = new Map<CompanionSet, Map<string, Element>>();
  readonly #plan: ServicePlan;
  readonly #family: Family;
  readonly #scheduler: string;
  readonly #hostAddresses: readonly string[];
  readonly #nodePortAddresses: readonly string[];

  constructor(plan: ServicePlan, settings: FamilySettings, scheduler: string) {
    if (settings.nodePortAddresses === 'all') throw new Error('ipvs mode must be told each address of node ports');
    this.#plan = plan;
    this.#family = plan.family;
    this.#scheduler = scheduler;
    this.#hostAddresses = settings.hostAddresses;
    this.#nodePortAddresses = settings.nodePortAddresses;
  }

  addPort(port: ServicePortPlan): void {
    const comment = servicePortName(this.#plan, port);
    // An address that is several kinds of frontend at once is served as the first of them. As a load balancer IP it is
    // filtered all the same (S-46).
    const seen = new Set<string>();
    for (const frontend of port.frontends) {
      const key = frontendKey(this.#family, port, frontend);
      if (frontend.kind === 'loadBalancer') this.#limit(port, frontend, key, comment);
      if (seen.has(key)) continue;
      seen.add(key);
      if (frontend.kind === 'nodePort') this.#nodePort(port, frontend.port, comment);
      else this.#address(port, frontend, { key, comment });
    }
    for (const endpoint of port.onNode) {
      if (endpoint.ip === '' || endpoint.port === 0) continue; // V-26
      this.#add('hairpin', { key: hairpinKey(endpoint, port.protocol) });
    }
  }

  /** V-27: a ServicePort whose node port is served nowhere does not open the port of its health check. */
  addHealthCheck(): void {
    const { ports, healthCheckNodePort, namespace, name } = this.#plan;
    const hasNodePort = ({ frontends }: ServicePortPlan): boolean => frontends.some(({ kind }) => kind === 'nodePort');
    const opens = this.#nodePortAddresses.length > 0 || !ports.every(hasNodePort);
    if (healthCheckNodePort === 0 || !opens) return;
    this.#add('health', { key: portKey(healthCheckNodePort), comment: `${namespace}/${name}` });
  }

  #address(port: ServicePortPlan, { kind, ip, port: number }: Frontend, element: Element): void {
    const internal = kind === 'clusterIP';
    this.#server(port, ip!, number, internal ? port.internalLocal : port.externalLocal);
    if (internal || !this.#hostAddresses.includes(ip!)) {
      this.addresses.add(ip!);
      this.#add('vips', { key: ipBytes(ip!)! });
    }
    this.#add(internal ? 'cluster' : port.externalLocal ? 'direct' : 'masq', element);
  }

  #nodePort(port: ServicePortPlan, number: number, comment: string): void {
    if (this.#nodePortAddresses.length === 0) return;
    for (const ip of this.#nodePortAddresses) this.#server(port, ip, number, port.externalLocal);
    if (!port.externalLocal) this.#add('node-masq', { key: protocolPortKey(port.protocol, number), comment });
  }

  /** The local set, if it applies and has any, else the cluster set (S-90, S-91). */
  #server(plan: ServicePortPlan, ip: string, port: number, onlyLocal: boolean): void {
    const persistent = plan.affinitySeconds !== null;
    const byPort = this.#scheduler === 'mh';
    const server: VirtualServer = {
      family: this.#family,
      protocol: plan.protocol,
      ip,
      port,
      scheduler: this.#scheduler,
      flags: (persistent ? SERVER_FLAG.persistent : 0) | (byPort ? SERVER_FLAG.port : 0),
      timeoutSeconds: plan.affinitySeconds ?? 0,
    };
    const key = serverKey(server);
    const endpoints = onlyLocal && plan.local.length > 0 ? plan.local : plan.cluster;
    // A node port on an address that is an external IP of the same port: the latter came first.
    if (!this.servers.has(key)) this.servers.set(key, { server, endpoints });
  }

  /** S-40…S-45; each load balancer IP is an allowed source of itself if the node's own address is one (S-42). */
  #limit(port: ServicePortPlan, { ip }: Frontend, key: string, comment: string): void {
    if (port.sourceRanges.length === 0) return;
    this.#add('limited', { key, comment });
    const itself = port.sourcesIncludeNode ? [ip!] : [];
    for (const element of allowedSources(key, port.sourceRanges, itself)) this.#add('sources', element);
  }

  #add(set: CompanionSet, element: Element): void {
    const elements = this.elements.get(set);
    if (elements) elements.set(element.key, element);
    else this.elements.set(set, new Map([[element.key, element]]));
  }
}
