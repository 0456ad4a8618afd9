// From the plan of a ServicePort and the numbers given to its endpoints to the elements it needs in the kernel. Pure.
import { type Family, ipBytes } from '../../native/ip.ts';
import type { Element } from '../../native/nftables/batch.ts';
import { u32Host } from '../../native/nftables/constants.ts';
import { indexBytes } from '../nft-table/fields.ts';
import { allowedSources, endpointBytes, frontendKey, hairpinKey } from '../nft-table/keys.ts';
import { type Endpoint, type ServicePlan, type ServicePortPlan, servicePortName } from '../service-plan.ts';
import {
  type Action,
  type ActionWords,
  EXTERNAL_LOCAL_WORD,
  MAX_ENDPOINTS,
  NODEPORT_LOCAL_WORD,
  type Prefix,
} from './actions.ts';
import type { SetName } from './schema.ts';

/** Session affinity of a ServicePort: its number and those of its endpoints (by endpoint bytes). */
export interface AffinityNumbers {
  readonly sid: number;
  readonly slots: ReadonlyMap<string, number>;
  /** The number given last; the search for a free one goes on behind it. */
  readonly lastSlot: number;
}

/** A ServicePort as it is, or shall be, in the kernel: its plan, and which index each endpoint (as bytes) has. */
export interface PortState {
  readonly plan: ServicePortPlan;
  readonly cluster: readonly string[];
  readonly local: readonly string[];
  readonly affinity: AffinityNumbers | null;
}

/** A Service in the kernel. */
export interface ServiceState {
  readonly plan: ServicePlan;
  readonly ports: readonly PortState[];
}

/** Slots have 13 bits, sids 18. */
export const MAX_AFFINITY_SLOT = 0x1fff;
export const MAX_SID = 0x3ffff;
export const affinityWord = (sid: number, slot: number): string => u32Host((0x80000000 | (sid << 13) | slot) >>> 0);

export type Emit = (set: SetName, element: Element) => void;

/** Endpoint bytes of a set, without those beyond what a word can count. */
export function wantedEndpoints(endpoints: readonly Endpoint[]): string[] {
  const out = endpoints.map(endpointBytes);
  if (out.length > MAX_ENDPOINTS) out.length = MAX_ENDPOINTS;
  return out;
}

/** Emits all elements of a Service. Those of `cluster-ips` and `hairpin` may be shared with other Services. */
export function renderService(state: ServiceState, words: ActionWords, emit: Emit): void {
  for (const port of state.ports) new PortRenderer(state.plan, port, words, emit).render();
}

class PortRenderer {
  readonly #family: Family;
  readonly #state: PortState;
  readonly #words: ActionWords;
  readonly #emit: Emit;
  readonly #comment: string;

  constructor(service: ServicePlan, state: PortState, words: ActionWords, emit: Emit) {
    this.#family = service.family;
    this.#state = state;
    this.#words = words;
    this.#emit = emit;
    this.#comment = servicePortName(service, state.plan);
  }

  render(): void {
    const { plan } = this.#state;
    // An address that is several kinds of frontend at once is served as the first of them.
    const seen = new Set<string>();
    for (const frontend of plan.frontends) {
      if (frontend.kind === 'clusterIP') this.#emit('cluster-ips', { key: ipBytes(frontend.ip!)! });
      const fe = frontendKey(this.#family, plan, frontend);
      if (frontend.kind === 'loadBalancer') this.#sourceRanges(fe);
      if (seen.has(fe)) continue;
      seen.add(fe);
      if (frontend.kind === 'clusterIP') this.#internal(fe);
      else this.#external(fe, frontend.kind === 'nodePort');
    }
    this.#hairpin();
  }

  /** S-15, S-30, S-31. */
  #internal(fe: string): void {
    const { plan, cluster, local } = this.#state;
    const endpoints = plan.internalLocal ? local : cluster;
    if (endpoints.length === 0) this.#without(fe, plan.hasEndpoints);
    else this.#word('services', fe, this.#choose(fe, plan.internalLocal ? 'll' : 'lb', endpoints));
  }

  /** S-18, S-20…S-24, S-30, S-32. */
  #external(fe: string, nodePort: boolean): void {
    const { plan, cluster, local } = this.#state;
    const map: SetName = nodePort ? 'nodeports' : 'services';
    const prefix = (name: 'lb' | 'mq' | 'll'): Prefix => (nodePort ? `np-${name}` : name);
    if (!plan.hasEndpoints || (!plan.externalLocal && cluster.length === 0)) {
      this.#without(fe, plan.hasEndpoints);
      return;
    }
    if (!plan.externalLocal) {
      this.#word(map, fe, this.#choose(fe, prefix('mq'), cluster));
      return;
    }
    this.#word(map, fe, nodePort ? NODEPORT_LOCAL_WORD : EXTERNAL_LOCAL_WORD);
    if (cluster.length > 0) this.#word('short-circuit', fe, this.#choose(fe, prefix('lb'), cluster));
    if (local.length > 0) this.#word('local-only', fe, this.#choose(fe, prefix('ll'), local));
    else this.#without(fe, true);
  }

  #word(map: SetName, fe: string, word: number): void {
    const commented = map === 'services' || map === 'nodeports';
    this.#emit(map, { key: fe, data: u32Host(word), ...(commented && { comment: this.#comment }) });
  }

  #without(fe: string, drop: boolean): void {
    this.#emit(drop ? 'no-endpoints-drop' : 'no-endpoints-reject', { key: fe, comment: this.#comment });
  }

  /** Emits the endpoints of a frontend and returns the word of the chain that chooses among them. */
  #choose(fe: string, prefix: Prefix, endpoints: readonly string[]): number {
    const { plan, affinity } = this.#state;
    const local = prefix.endsWith('ll');
    const action: Action = {
      prefix,
      count: endpoints.length,
      affinitySeconds: affinity ? plan.affinitySeconds : null,
    };
    if (!affinity) {
      const map: SetName = local ? 'local-endpoints' : 'endpoints';
      for (let i = 0; i < endpoints.length; i++) this.#emit(map, { key: fe + indexBytes(i), data: endpoints[i]! });
      return this.#words.word(action);
    }
    const slots: SetName = local ? 'local-affinity-slots' : 'affinity-slots';
    const map: SetName = local ? 'local-affinity-endpoints' : 'affinity-endpoints';
    this.#emit('affinity-services', { key: fe, data: affinityWord(affinity.sid, 0) });
    for (const [i, endpoint] of endpoints.entries()) {
      const word = affinityWord(affinity.sid, affinity.slots.get(endpoint)!);
      this.#emit(slots, { key: fe + indexBytes(i), data: word });
      this.#emit(map, { key: fe + word, data: endpoint });
    }
    return this.#words.word(action);
  }

  /** S-25: a local endpoint that reaches itself through the Service. */
  #hairpin(): void {
    const { plan } = this.#state;
    const done = new Set<Endpoint>();
    for (const set of [plan.cluster, plan.local]) {
      for (const endpoint of set) {
        if (!endpoint.local || done.has(endpoint)) continue;
        done.add(endpoint);
        this.#emit('hairpin', { key: hairpinKey(endpoint, plan.protocol) });
      }
    }
  }

  /** S-40…S-45; with the node's own address among them, the load balancer IPs are sources too (S-42). */
  #sourceRanges(fe: string): void {
    const { plan } = this.#state;
    if (plan.sourceRanges.length === 0) return;
    this.#emit('source-restricted', { key: fe });
    const vips = plan.sourcesIncludeNode
      ? plan.frontends.flatMap(({ kind, ip }) => (kind === 'loadBalancer' ? [ip!] : []))
      : [];
    for (const element of allowedSources(fe, plan.sourceRanges, vips)) this.#emit('source-allowed', element);
  }
}
