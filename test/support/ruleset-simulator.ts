// Sends packets through the tables of this project, hook by hook, the way the kernel does with the first packet of a
// connection (S-1, S-34, S-44). Every random choice is followed to all its ends, so results come with probabilities.

import type { DesiredTable } from '../../backends/nft-table/table-plan.ts';
import { BASE_CHAINS, type SetName } from '../../backends/nftables/schema.ts';
import { type Family, familyOf, ipBytes, ipText } from '../../native/ip.ts';
import { type PacketState, type Remembered, RulesetMachine, type Surroundings } from './ruleset-machine.ts';

export interface Packet {
  readonly source: string;
  readonly destination: string;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP' | 'ICMP';
  /** Destination port; none for ICMP. */
  readonly port?: number;
  /** Where it enters; null when a process of the node sends it. */
  readonly interface: string | null;
}

export interface Outcome {
  readonly result: 'DNAT' | 'REJECT' | 'DROP' | 'PASS';
  /** `ip:port` or `[ip]:port`, null unless DNAT. */
  readonly endpoint: string | null;
  readonly masquerade: boolean;
  readonly probability: number;
  /** It left the host's stack through postrouting; mark and priority as of then. */
  readonly postrouting: boolean;
  readonly mark: number;
  readonly priority: number;
  readonly memory: Map<string, Remembered>;
}

export interface SimulatorOptions {
  readonly tables: readonly DesiredTable<SetName>[];
  /** Addresses of the host; all of 127.0.0.0/8 and ::1 are local besides. */
  readonly localAddresses: readonly string[];
  /** Clock of session affinity. */
  readonly nowMs?: () => number;
  /** Packet mark and skb priority that packets come with. */
  readonly mark?: number;
  readonly priority?: number;
}

const HOOK = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const;
const PROTOCOLS = { TCP: 6, UDP: 17, SCTP: 132 };
const LOOPBACK6 = ipBytes('::1')!;

export class RulesetSimulator {
  readonly #options: SimulatorOptions;
  readonly #local: ReadonlySet<string>;
  #machines = new Map<Family, RulesetMachine<SetName>>();
  readonly #memory = new Map<Family, Map<string, Remembered>>([
    ['IPv4', new Map()],
    ['IPv6', new Map()],
  ]);

  constructor(options: SimulatorOptions) {
    this.#options = options;
    this.#local = new Set(options.localAddresses.map((ip) => ipBytes(ip)!));
    this.replaceTables(options.tables);
  }

  /** As a transaction does; what packets wrote stays. */
  replaceTables(tables: readonly DesiredTable<SetName>[]): void {
    this.#machines = new Map(tables.map((table) => [table.family, new RulesetMachine(table)]));
  }

  /** All that may become of a packet; the memory of session affinity stays as it is. */
  outcomes(packet: Packet): Outcome[] {
    const out: Outcome[] = [];
    const choices: { value: number; modulus: number }[] = [];
    do {
      let asked = 0;
      const choose = (modulus: number): number => {
        choices[asked] ??= { value: 0, modulus };
        return choices[asked++]!.value;
      };
      const outcome = this.#send(packet, choose);
      const probability = choices.reduce((product, choice) => product / choice.modulus, 1);
      out.push({ ...outcome, probability });
      while (choices.length > 0 && choices.at(-1)!.value === choices.at(-1)!.modulus - 1) choices.pop();
      if (choices.length > 0) choices.at(-1)!.value++;
    } while (choices.length > 0);
    return out;
  }

  /** Lets one of the outcomes happen. @throws Error when none leads to the endpoint. */
  connect(packet: Packet, endpoint: string): Outcome {
    const outcome = this.outcomes(packet).find((o) => o.endpoint === endpoint);
    if (outcome === undefined) throw new Error(`no way to ${endpoint}`);
    this.#memory.set(familyOf(packet.destination), outcome.memory);
    return outcome;
  }

  #send(packet: Packet, choose: (modulus: number) => number): Omit<Outcome, 'probability'> {
    const family = familyOf(packet.destination);
    const machine = this.#machines.get(family);
    const memory = new Map(this.#memory.get(family));
    const isLocal = (address: string): boolean => this.#local.has(address) || isLoopback(address);
    const around: Surroundings = { isLocal, choose, memory, nowMs: this.#options.nowMs?.() ?? 0 };
    const state = firstPacket(packet, this.#options);
    let postrouting = false;
    let verdict: 'accept' | 'drop' | 'reject' = 'accept';
    /** Runs the chains of a hook in the order of their priorities; `nat` false leaves those out. */
    const hook = (number: number, nat = true): boolean => {
      const chains = [...BASE_CHAINS].filter(([name, base]) => base.hook === number && machine?.has(name));
      chains.sort(([, a], [, b]) => a.priority - b.priority);
      for (const [name, base] of chains) {
        if (!nat && base.type === 'nat') continue;
        verdict = machine!.run(name, state, around);
        if (verdict !== 'accept') return false;
      }
      if (number === HOOK.postrouting) postrouting = true;
      return true;
    };
    if (packet.interface !== null) {
      if (hook(HOOK.prerouting)) {
        if (isLocal(state.daddr)) hook(HOOK.input);
        else if (hook(HOOK.forward)) hook(HOOK.postrouting);
      }
    } else if (hook(HOOK.output) && hook(HOOK.postrouting) && isLocal(state.daddr)) {
      // Through the loopback device; the destination NAT has been decided in output.
      state.iifname = 'lo';
      if (hook(HOOK.prerouting, false)) hook(HOOK.input);
    }
    const { translated, masqueraded, mark, priority } = state;
    const result =
      verdict !== 'accept' ? (verdict === 'drop' ? 'DROP' : 'REJECT') : translated === null ? 'PASS' : 'DNAT';
    const endpoint = result === 'DNAT' ? endpointText(translated!) : null;
    return { result, endpoint, masquerade: masqueraded, postrouting, mark, priority, memory };
  }
}

/** All addresses of 127.0.0.0/8, and ::1; `address` as bytes. */
export function isLoopback(address: string): boolean {
  return address === LOOPBACK6 || (address.length === 4 && address.startsWith('\x7f'));
}

/** A packet before the first hook, with the mark and priority it comes with. */
export function firstPacket(packet: Packet, { mark = 0, priority = 0 }): PacketState {
  const { protocol, port } = packet;
  // An echo request's checksum stands where others have the port: it must not be mistaken for one.
  const second = protocol === 'ICMP' ? 80 : port;
  if (second === undefined) throw new Error('a packet without a port');
  const number = protocol === 'ICMP' ? (familyOf(packet.destination) === 'IPv4' ? 1 : 58) : PROTOCOLS[protocol];
  return {
    saddr: ipBytes(packet.source)!,
    daddr: ipBytes(packet.destination)!,
    protocol: number,
    transport: String.fromCharCode(0xc0, 0, second >> 8, second & 255, 0, 0, 0, 0),
    iifname: packet.interface ?? '',
    mark,
    priority,
    ctStatus: 0,
    masqueraded: false,
    translated: null,
  };
}

/** Text of address and port. */
export function endpointText(bytes: string): string {
  const ip = ipText(bytes.slice(0, -2));
  const port = (bytes.charCodeAt(bytes.length - 2) << 8) | bytes.charCodeAt(bytes.length - 1);
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}
