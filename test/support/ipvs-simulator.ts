// Sends the first packet of a connection through the companion table and IPVS, hook by hook, as the kernel does. The
// scheduler is taken to be fair: every real server has the same chance, so results come with probabilities.
import type { CompanionSet } from '../../backends/ipvs/companion-schema.ts';
import type { ServiceObjects, WantedServer } from '../../backends/ipvs/service-objects.ts';
import { HOOK } from '../../backends/nft-table/layout.ts';
import type { DesiredTable } from '../../backends/nft-table/table-plan.ts';
import { type Family, familyOf, ipBytes, ipText } from '../../native/ip.ts';
import { SERVER_FLAG, serverKey } from '../../native/ipvs/objects.ts';
import { type PacketState, RulesetMachine } from './ruleset-machine.ts';
import { endpointText, firstPacket, isLoopback, type Packet } from './ruleset-simulator.ts';

export interface IpvsOutcome {
  readonly result: 'DNAT' | 'REJECT' | 'DROP' | 'PASS';
  /** `ip:port` or `[ip]:port`, null unless DNAT. */
  readonly endpoint: string | null;
  readonly masquerade: boolean;
  readonly probability: number;
  /** It left the host's stack through postrouting; the mark as of then. */
  readonly postrouting: boolean;
  readonly mark: number;
}

export interface IpvsSimulatorOptions {
  /** Companion tables, complete. */
  readonly tables: readonly DesiredTable<CompanionSet>[];
  readonly services: readonly ServiceObjects[];
  /** Addresses of the host but for those on the dummy interface; all of 127.0.0.0/8 and ::1 are local besides. */
  readonly localAddresses: readonly string[];
  /** Clock of persistence. */
  readonly nowMs?: () => number;
  /** Mark that packets come with. */
  readonly mark?: number;
}

/** A real server chosen for a client before. */
interface Template {
  readonly endpoint: string;
  readonly expiresMs: number;
}

type Verdict = 'accept' | 'drop' | 'reject';

export class IpvsSimulator {
  readonly #options: IpvsSimulatorOptions;
  #machines = new Map<Family, RulesetMachine<CompanionSet>>();
  #chains: DesiredTable<CompanionSet>['layout']['baseChains'] = new Map();
  #servers = new Map<string, WantedServer>();
  #local = new Set<string>();
  /** By virtual server and client: each virtual server has a memory of its own (S-56). */
  readonly #templates = new Map<string, Template>();

  constructor(options: IpvsSimulatorOptions) {
    this.#options = options;
    this.replace(options);
  }

  /** As a sync does; what IPVS remembers of clients stays. */
  replace({ tables, services }: Pick<IpvsSimulatorOptions, 'tables' | 'services'>): void {
    this.#machines = new Map(tables.map((table) => [table.family, new RulesetMachine(table)]));
    this.#chains = new Map(tables.flatMap(({ layout }) => [...layout.baseChains]));
    this.#servers = new Map(services.flatMap(({ servers }) => [...servers]));
    const bound = services.flatMap(({ addresses }) => [...addresses]);
    this.#local = new Set([...this.#options.localAddresses, ...bound].map((ip) => ipBytes(ip)!));
  }

  /** All that may become of a packet; the memory of clients stays as it is. */
  outcomes(packet: Packet): IpvsOutcome[] {
    const out: Omit<IpvsOutcome, 'probability'>[] = [];
    let choices = 1;
    for (let chosen = 0; chosen < choices; chosen++) {
      out.push(
        this.#send(packet, (modulus) => {
          choices = modulus;
          return chosen;
        }),
      );
    }
    return out.map((outcome) => ({ ...outcome, probability: 1 / choices }));
  }

  /** Lets one of the outcomes happen. @throws Error when none leads to the endpoint. */
  connect(packet: Packet, endpoint: string): IpvsOutcome {
    const outcome = this.outcomes(packet).find((o) => o.endpoint === endpoint);
    if (outcome === undefined) throw new Error(`no way to ${endpoint}`);
    const key = keyOf(packet)!;
    const { flags, timeoutSeconds } = this.#servers.get(key)!.server;
    if (flags & SERVER_FLAG.persistent) {
      const expiresMs = this.#nowMs() + timeoutSeconds * 1000;
      this.#templates.set(`${key} ${packet.source}`, { endpoint, expiresMs });
    }
    return outcome;
  }

  #nowMs(): number {
    return this.#options.nowMs?.() ?? 0;
  }

  #isLocal(address: string): boolean {
    return this.#local.has(address) || isLoopback(address);
  }

  #send(packet: Packet, choose: (modulus: number) => number): Omit<IpvsOutcome, 'probability'> {
    const machine = this.#machines.get(familyOf(packet.destination));
    const state = firstPacket(packet, { mark: this.#options.mark ?? 0, priority: 0 });
    const isLocal = (address: string): boolean => this.#isLocal(address);
    const around = {
      isLocal,
      nowMs: this.#nowMs(),
      memory: new Map(),
      choose: (): number => {
        throw new Error('the companion table chooses nothing');
      },
    };
    let postrouting = false;
    let verdict: Verdict = 'accept';
    /** Runs the companion's chains of a hook. */
    const hook = (number: number): boolean => {
      const chains = [...this.#chains].filter(([, base]) => base.hook === number);
      for (const [name] of chains.sort(([, a], [, b]) => a.priority - b.priority)) {
        verdict = machine?.run(name, state, around) ?? 'accept';
        if (verdict !== 'accept') return false;
      }
      if (number === HOOK.postrouting) postrouting = true;
      return true;
    };
    /** IPVS as it comes behind the chains of input and output. False when the packet ends here. */
    const ipvs = (): boolean => {
      const server = this.#servers.get(keyOf(packet) ?? '');
      if (server === undefined) return true;
      if (server.endpoints.length === 0) {
        verdict = 'reject'; // S-92
        return false;
      }
      this.#translate(state, packet, server, choose);
      return true;
    };

    /** IPVS sends what it translated itself, as if the node had. */
    const resent = (): boolean => state.translated === null || isLocal(state.daddr) || hook(HOOK.output);
    const enters = (): boolean => {
      if (!hook(HOOK.prerouting)) return false;
      if (!isLocal(state.daddr)) return hook(HOOK.forward) && hook(HOOK.postrouting);
      if (!hook(HOOK.input) || !ipvs() || !resent()) return false;
      return isLocal(state.daddr) || hook(HOOK.postrouting);
    };
    const leaves = (): boolean => {
      if (!hook(HOOK.output) || !ipvs() || !resent() || !hook(HOOK.postrouting)) return false;
      if (!isLocal(state.daddr)) return true;
      state.iifname = 'lo';
      return hook(HOOK.prerouting) && hook(HOOK.input);
    };
    if (packet.interface !== null) enters();
    else leaves();
    const { translated, masqueraded: masquerade, mark } = state;
    const common = { masquerade, postrouting, mark };
    if (verdict !== 'accept') return { ...common, result: verdict === 'drop' ? 'DROP' : 'REJECT', endpoint: null };
    if (translated === null) return { ...common, result: 'PASS', endpoint: null };
    return { ...common, result: 'DNAT', endpoint: endpointText(translated) };
  }

  #translate(state: PacketState, packet: Packet, server: WantedServer, choose: (modulus: number) => number): void {
    const template = this.#templates.get(`${serverKey(server.server)} ${packet.source}`);
    const known =
      template && template.expiresMs > this.#nowMs()
        ? server.endpoints.find(({ key }) => key === template.endpoint)
        : undefined;
    const { ip, port } = known ?? server.endpoints[choose(server.endpoints.length)]!;
    const portBytes = String.fromCharCode(port >> 8, port & 255);
    state.daddr = ipBytes(ip)!;
    state.transport = state.transport.slice(0, 2) + portBytes + state.transport.slice(4);
    state.translated = state.daddr + portBytes;
  }
}

/** Key of the virtual server a packet is for; null for a protocol that IPVS does not know. */
function keyOf({ protocol, destination, port }: Packet): string | null {
  if (protocol === 'ICMP' || port === undefined) return null;
  return serverKey({ family: familyOf(destination), protocol, ip: ipText(ipBytes(destination)!), port });
}
