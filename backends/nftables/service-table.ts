// What one family's table holds for Services: the state of each Service as the kernel has it, the numbers in use, and
// how a change of plans becomes element operations. No I/O: the caller commits, then says `applied` or `dropped`.
import type { Family } from '../../native/ip.ts';
import type { Element } from '../../native/nftables/batch.ts';
import { u32FromHost, u32Host } from '../../native/nftables/constants.ts';
import { indexBytes } from '../nft-table/fields.ts';
import { frontendKey, frontendKeyLength } from '../nft-table/keys.ts';
import { ReferenceCounts } from '../nft-table/operations.ts';
import type { PlanChange, ServicePlan, ServicePortPlan } from '../service-plan.ts';
import {
  type Action,
  ActionWords,
  chainName,
  EXTERNAL_LOCAL,
  EXTERNAL_LOCAL_WORD,
  NODEPORT_LOCAL,
  NODEPORT_LOCAL_WORD,
  parseChainName,
} from './actions.ts';
import { ElementChanges, type Elements, type Reduced, SHARED_SETS } from './changes.ts';
import {
  type AffinityNumbers,
  type Emit,
  MAX_AFFINITY_SLOT,
  MAX_SID,
  type PortState,
  renderService,
  type ServiceState,
  wantedEndpoints,
} from './elements.ts';
import type { SetName } from './schema.ts';
import { assignSlots, NumberPool } from './slots.ts';

/** A change that has been worked out but not committed. */
export interface PreparedChange {
  readonly reduced: Reduced;
  /** Chains that must exist before. */
  readonly newActions: readonly Action[];
  readonly states: ReadonlyMap<string, ServiceState | null>;
  readonly taken: readonly number[];
  readonly released: readonly number[];
}

const WORD_MAPS: readonly SetName[] = ['services', 'nodeports', 'short-circuit', 'local-only'];

/** Words that stand for the two policy-Local chains. */
export const POLICY_LOCAL_ACTIONS: readonly Element[] = [
  { key: u32Host(EXTERNAL_LOCAL_WORD), data: EXTERNAL_LOCAL },
  { key: u32Host(NODEPORT_LOCAL_WORD), data: NODEPORT_LOCAL },
];

export class ServiceTable {
  readonly family: Family;
  readonly words = new ActionWords();
  readonly services = new Map<string, ServiceState>();
  /** Action chains that exist, by name. */
  readonly actions = new Map<string, Action>();
  /** Elements whose deletion waits until no packet needs them any more. */
  readonly leftovers: Elements = new Map();
  readonly #references = new ReferenceCounts<SetName>();
  readonly #sids = new NumberPool(MAX_SID);

  constructor(family: Family) {
    this.family = family;
  }

  /** Works out the elements for these changes; the last change of a Service counts. */
  prepare(changes: readonly PlanChange[]): PreparedChange {
    const elements = new ElementChanges();
    const states = new Map<string, ServiceState | null>();
    const taken: number[] = [];
    const released: number[] = [];
    for (const { service, plan } of changes) states.set(service, plan && this.#nextState(service, plan, taken));
    const newActions = new Map<string, Action>();
    for (const [service, state] of states) {
      const old = this.services.get(service);
      if (old) renderService(old, this.words, (set, element) => elements.remove(set, element));
      if (state) renderService(state, this.words, (set, element) => elements.add(set, element));
      const kept = new Set(state?.ports.map((port) => port.affinity?.sid));
      for (const port of old?.ports ?? [])
        if (port.affinity && !kept.has(port.affinity.sid)) released.push(port.affinity.sid);
    }
    const reduced = elements.reduce(this.#references, this.leftovers, frontendKeyLength(this.family));
    for (const map of WORD_MAPS) {
      for (const element of reduced.now.additions.get(map) ?? []) this.#needAction(element, newActions);
    }
    return { reduced, newActions: [...newActions.values()], states, taken, released };
  }

  #needAction(element: Element, into: Map<string, Action>): void {
    const action = this.words.action(u32FromHost(element.data!));
    if (!action) return;
    const name = chainName(action);
    if (!this.actions.has(name)) into.set(name, action);
  }

  /** The kernel has accepted a prepared change. */
  applied(change: PreparedChange): void {
    for (const [service, state] of change.states) {
      if (state) this.services.set(service, state);
      else this.services.delete(service);
    }
    for (const [set, key, delta] of change.reduced.references) this.#references.change(set, key, delta);
    for (const [set, key] of change.reduced.reclaimed) this.leftovers.get(set)?.delete(key);
    for (const [set, elements] of change.reduced.later) {
      let waiting = this.leftovers.get(set);
      if (!waiting) this.leftovers.set(set, (waiting = new Map()));
      for (const element of elements) waiting.set(element.key, element);
    }
    for (const sid of change.released) this.#sids.release(sid);
  }

  /** The kernel has refused a prepared change, or it was not sent. */
  dropped(change: PreparedChange): void {
    for (const sid of change.taken) this.#sids.release(sid);
  }

  /** The chains of these actions exist now. */
  haveActions(actions: Iterable<Action>): void {
    for (const action of actions) this.actions.set(chainName(action), action);
  }

  /** Elements of `actions` (without the policy-Local ones, this is `local-actions` too). */
  actionElements(actions: Iterable<Action>): Element[] {
    return [...actions].map((action) => ({ key: u32Host(this.words.word(action)), data: chainName(action) }));
  }

  /** Adds all elements that a Service needs, by set and key. */
  render(state: ServiceState, into: Elements): void {
    const emit: Emit = (set, element) => {
      let elements = into.get(set);
      if (!elements) into.set(set, (elements = new Map()));
      elements.set(element.key, element);
    };
    renderService(state, this.words, emit);
  }

  /** Learns at start which chains exist, what they are called, and which numbers are in use, from the kernel's elements. */
  adoptActions(have: Elements): void {
    // New numbers go on behind them: none may be given out before its owner has been adopted.
    for (const { data } of have.get('affinity-services')?.values() ?? []) this.#sids.skip(sidOf(data!));
    for (const element of have.get('actions')?.values() ?? []) {
      if (element.data === undefined) continue;
      this.words.learn(u32FromHost(element.key), element.data);
      const action = parseChainName(element.data);
      if (action && element.key === u32Host(this.words.word(action))) this.actions.set(element.data, action);
    }
  }

  /**
   * Takes over a plan at start: numbers and order come from what the kernel holds (`have`), so that a restart changes
   * nothing that need not change. Call adoptActions before.
   */
  adopt(plan: ServicePlan, have: Elements): void {
    const ports = plan.ports.map((port) => this.#nextPort(port, this.#recover(port, have), []));
    const state = { plan, ports };
    this.services.set(`${plan.namespace}/${plan.name}`, state);
    renderService(state, this.words, (set, element) => {
      if (SHARED_SETS.has(set)) this.#references.change(set, element.key, 1);
    });
  }

  /** Actions that Services use and whose chains do not exist. */
  missingActions(elements: Elements): Action[] {
    const missing = new Map<string, Action>();
    for (const map of WORD_MAPS) {
      for (const element of elements.get(map)?.values() ?? []) this.#needAction(element, missing);
    }
    return [...missing.values()];
  }

  #nextState(service: string, plan: ServicePlan, taken: number[]): ServiceState {
    const old = this.services.get(service);
    const ports = plan.ports.map((port) => {
      const before = old?.ports.find((p) => p.plan.portName === port.portName && p.plan.protocol === port.protocol);
      return this.#nextPort(port, before ?? null, taken);
    });
    return { plan, ports };
  }

  #nextPort(plan: ServicePortPlan, before: Omit<PortState, 'plan'> | null, taken: number[]): PortState {
    let cluster = wantedEndpoints(plan.cluster);
    let local = wantedEndpoints(plan.local);
    const remembers = plan.affinitySeconds !== null && this.words.reserve(plan.affinitySeconds);
    const affinity = remembers ? this.#affinity(before?.affinity ?? null, cluster, local, taken) : null;
    if (affinity) {
      // An endpoint without a slot could not be remembered; the others share its part evenly.
      cluster = cluster.filter((endpoint) => affinity.slots.has(endpoint));
      local = local.filter((endpoint) => affinity.slots.has(endpoint));
    }
    return {
      plan,
      cluster: assignSlots(before?.cluster ?? [], cluster),
      local: assignSlots(before?.local ?? [], local),
      affinity,
    };
  }

  #affinity(
    before: AffinityNumbers | null,
    cluster: readonly string[],
    local: readonly string[],
    taken: number[],
  ): AffinityNumbers | null {
    let sid = before?.sid;
    if (sid === undefined) {
      const next = this.#sids.take();
      if (next === null) return null; // 262,143 ServicePorts with affinity: served without memory
      taken.push((sid = next));
    }
    const slots = new Map<string, number>();
    const used = new Set<number>();
    const wanted = new Set([...cluster, ...local]);
    for (const endpoint of wanted) {
      const slot = before?.slots.get(endpoint);
      if (slot === undefined) continue;
      slots.set(endpoint, slot);
      used.add(slot);
    }
    let last = before?.lastSlot ?? Math.max(0, ...used);
    for (const endpoint of wanted) {
      if (slots.has(endpoint) || used.size >= MAX_AFFINITY_SLOT) continue;
      do last = (last % MAX_AFFINITY_SLOT) + 1;
      while (used.has(last));
      used.add(last);
      slots.set(endpoint, last);
    }
    return { sid, slots, lastSlot: last };
  }

  /** What the kernel's elements say about a ServicePort's indices and affinity numbers. */
  #recover(plan: ServicePortPlan, have: Elements): Omit<PortState, 'plan'> {
    let cluster: string[] = [];
    let local: string[] = [];
    let sid: number | null = null;
    const slots = new Map<string, number>();
    for (const frontend of plan.frontends) {
      const fe = frontendKey(this.family, plan, frontend);
      const id = have.get('affinity-services')?.get(fe)?.data;
      if (id !== undefined && sid === null) sid = sidOf(id);
      const read = (prefix: '' | 'local-'): string[] => {
        const direct = readIndices(have, `${prefix}endpoints` as SetName, fe);
        if (direct.length > 0) return direct;
        const words = readIndices(have, `${prefix}affinity-slots` as SetName, fe);
        const endpoints = have.get(`${prefix}affinity-endpoints` as SetName);
        return words.flatMap((word) => {
          const endpoint = endpoints?.get(fe + word)?.data;
          if (endpoint === undefined) return [];
          slots.set(endpoint, u32FromHost(word) & MAX_AFFINITY_SLOT);
          return [endpoint];
        });
      };
      if (cluster.length === 0) cluster = read('');
      if (local.length === 0) local = read('local-');
    }
    const affinity =
      plan.affinitySeconds !== null && sid !== null && this.#sids.claim(sid)
        ? { sid, slots: distinct(slots), lastSlot: Math.max(0, ...slots.values()) }
        : null;
    return { cluster: [...new Set(cluster)], local: [...new Set(local)], affinity };
  }
}

const sidOf = (word: string): number => (u32FromHost(word) >>> 13) & MAX_SID;

function readIndices(have: Elements, set: SetName, fe: string): string[] {
  const elements = have.get(set);
  const out: string[] = [];
  for (let i = 0; elements; i++) {
    const data = elements.get(fe + indexBytes(i))?.data;
    if (data === undefined) break;
    out.push(data);
  }
  return out;
}

/** Drops endpoints whose number another one has already: a damaged table. */
function distinct(slots: ReadonlyMap<string, number>): Map<string, number> {
  const used = new Set<number>();
  const out = new Map<string, number>();
  for (const [endpoint, slot] of slots) {
    if (slot === 0 || used.has(slot)) continue;
    used.add(slot);
    out.set(endpoint, slot);
  }
  return out;
}
