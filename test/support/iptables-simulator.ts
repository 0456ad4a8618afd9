// Sends the first packet of a connection through tables of the rule model, hook by hook, as the kernel does. Every
// random choice is followed to all its ends, so results come with probabilities. What it does not know throws.
import { TABLES, type Table } from '../../backends/iptables/rule.ts';
import type { Tables } from '../../backends/iptables/ruleset.ts';
import { canonicalIP, cidrContains, type Family, familyOf, parseCidr } from '../../native/ip.ts';
import { type Lists, type RulePacket, ruleApplies, type Seen, targetOf } from './iptables-machine.ts';
import type { Packet } from './ruleset-simulator.ts';

export interface IptablesOutcome {
  /** ACCEPT: a rule of the filter table accepted a packet that was not translated. */
  readonly result: 'DNAT' | 'REJECT' | 'DROP' | 'PASS' | 'ACCEPT';
  /** `ip:port` or `[ip]:port`, null unless DNAT. */
  readonly endpoint: string | null;
  readonly masquerade: boolean;
  readonly probability: number;
  /** It left the host's stack through postrouting; the mark as of then. */
  readonly postrouting: boolean;
  readonly mark: number;
  readonly lists: Lists;
}

export interface IptablesSimulatorOptions {
  readonly tables: Readonly<Partial<Record<Family, Tables>>>;
  /** Addresses of the host; all of 127.0.0.0/8 and ::1 are local besides. */
  readonly localAddresses: readonly string[];
  /** Clock of session affinity. */
  readonly nowMs?: () => number;
  /** Mark that packets come with. */
  readonly mark?: number;
}

type Verdict = 'accept' | 'drop' | 'reject' | 'next';
const LOOPBACK = parseCidr('127.0.0.0/8')!;
const MAX_DEPTH = 16;

export class IptablesSimulator {
  readonly #options: IptablesSimulatorOptions;
  readonly #local: ReadonlySet<string>;
  #tables: IptablesSimulatorOptions['tables'] = {};
  #lists: Lists = new Map();

  constructor(options: IptablesSimulatorOptions) {
    this.#options = options;
    this.#local = new Set(options.localAddresses.map((ip) => canonicalIP(ip)!));
    this.replaceTables(options.tables);
  }

  /** As one transaction does: a list of clients lives on if a rule still names it. */
  replaceTables(tables: IptablesSimulatorOptions['tables']): void {
    this.#tables = tables;
    const named = new Set<string>();
    for (const { nat } of Object.values(tables)) {
      for (const { matches } of [...nat.values()].flat()) {
        for (const match of matches) if (match.match === 'recent') named.add(match.list);
      }
    }
    this.#lists = new Map([...this.#lists].filter(([name]) => named.has(name)));
  }

  /** All that may become of a packet; the memory of session affinity stays as it is. */
  outcomes(packet: Packet): IptablesOutcome[] {
    const out: IptablesOutcome[] = [];
    const chances: { yes: boolean; chance: number }[] = [];
    do {
      let asked = 0;
      const happens = (chance: number): boolean => {
        chances[asked] ??= { yes: true, chance };
        return chances[asked++]!.yes;
      };
      const outcome = this.#send(packet, happens);
      const probability = chances.reduce((product, { yes, chance }) => product * (yes ? chance : 1 - chance), 1);
      out.push({ ...outcome, probability });
      while (chances.at(-1)?.yes === false) chances.pop();
      if (chances.length > 0) chances.at(-1)!.yes = false;
    } while (chances.length > 0);
    return out;
  }

  /** Lets one of the outcomes happen. @throws Error when none leads to the endpoint. */
  connect(packet: Packet, endpoint: string): IptablesOutcome {
    const outcome = this.outcomes(packet).find((o) => o.endpoint === endpoint);
    if (outcome === undefined) throw new Error(`no way to ${endpoint}`);
    this.#lists = outcome.lists;
    return outcome;
  }

  #send(packet: Packet, happens: (chance: number) => boolean): Omit<IptablesOutcome, 'probability'> {
    const tables = this.#tables[familyOf(packet.destination)];
    const lists: Map<string, Seen> = new Map([...this.#lists].map(([name, seen]) => [name, new Map(seen)]));
    const state: RulePacket = {
      source: canonicalIP(packet.source)!,
      destination: canonicalIP(packet.destination)!,
      protocol: packet.protocol,
      port: packet.port ?? null,
      input: packet.interface,
      mark: this.#options.mark ?? 0,
      translated: null,
      masqueraded: false,
    };
    const isLocal = (ip: string): boolean => this.#local.has(ip) || ip === '::1' || cidrContains(LOOPBACK, ip);
    const around = { lists, nowMs: this.#options.nowMs?.() ?? 0, isLocal, happens };
    let accepted = false;

    const chain = (table: Table, name: string, depth: number): Verdict | 'return' => {
      const rules = tables?.[table].get(name);
      if (rules === undefined) throw new Error(`table ${table} has no chain ${name}`);
      if (depth > MAX_DEPTH) throw new Error('too many jumps');
      for (const rule of rules) {
        if (!ruleApplies(rule, state, around) || rule.target === null) continue;
        if (rule.target.target === 'jump') {
          const verdict = chain(table, rule.target.chain, depth + 1);
          if (verdict !== 'return' && verdict !== 'next') return verdict;
          continue;
        }
        const verdict = targetOf(rule.target, state, { table, hook: current });
        if (verdict === 'accept' && table === 'filter') accepted = true;
        if (verdict !== 'next') return verdict;
      }
      return 'next';
    };
    let current = '';
    let verdict: Verdict = 'accept';
    /** All tables at a hook, in the order of their priorities; `nat` false leaves that table out. */
    const hook = (name: string, nat = true): boolean => {
      current = name;
      const order = name === 'POSTROUTING' || name === 'INPUT' ? TABLES : (['mangle', 'nat', 'filter'] as const);
      for (const table of order) {
        if ((table === 'nat' && !nat) || !tables?.[table].has(name)) continue;
        const found = chain(table, name, 0);
        verdict = found === 'drop' || found === 'reject' ? found : 'accept';
        if (verdict !== 'accept') return false;
      }
      return true;
    };

    let postrouting = false;
    const leave = (): boolean => {
      postrouting = true;
      return hook('POSTROUTING');
    };
    if (packet.interface !== null) {
      if (hook('PREROUTING')) {
        if (isLocal(state.destination)) hook('INPUT');
        else if (hook('FORWARD')) leave();
      }
    } else if (hook('OUTPUT') && leave() && isLocal(state.destination)) {
      // Through the loopback device; where to translate to has been decided in OUTPUT.
      state.input = 'lo';
      if (hook('PREROUTING', false)) hook('INPUT');
    }
    return {
      ...resultOf(verdict, state, accepted),
      masquerade: state.masqueraded,
      postrouting,
      mark: state.mark,
      lists,
    };
  }
}

function resultOf(
  verdict: Verdict,
  { translated }: RulePacket,
  accepted: boolean,
): Pick<IptablesOutcome, 'result' | 'endpoint'> {
  if (verdict === 'drop') return { result: 'DROP', endpoint: null };
  if (verdict === 'reject') return { result: 'REJECT', endpoint: null };
  if (translated !== null) return { result: 'DNAT', endpoint: translated };
  return { result: accepted ? 'ACCEPT' : 'PASS', endpoint: null };
}
