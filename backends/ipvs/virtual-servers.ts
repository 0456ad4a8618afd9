// The virtual servers of the kernel: what is there, and the requests that make it what is wanted. What the kernel holds is
// read at start and at each check; in between, each acknowledged request is noted.
import { cidrContains, type Family, parseCidr } from '../../native/ip.ts';
import type { IpvsConnection, IpvsFailure } from '../../native/ipvs/connection.ts';
import {
  type RealServer,
  type RealServerState,
  type ServerId,
  serverKey,
  type VirtualServer,
} from '../../native/ipvs/objects.ts';
import { realServerReader } from '../../native/ipvs/proc.ts';
import type { IpvsRequest } from '../../native/ipvs/requests.ts';
import type { ListedServer } from './dump-text.ts';
import { decideRealServers, type RealServerOperation, realServerKey } from './real-servers.ts';
import type { WantedServer } from './service-objects.ts';
import type { IpvsSettings } from './settings.ts';

/** A virtual server as the kernel has it; real servers by `realServerKey`. */
export interface PresentServer {
  readonly server: VirtualServer;
  readonly real: ReadonlyMap<string, RealServer>;
}

interface Entry {
  server: VirtualServer;
  readonly real: Map<string, RealServer>;
  /** Since when real servers drain, in milliseconds. Only the limit needs it. */
  drainingSince: Map<string, number>;
}

const newEntry = (server: VirtualServer, real = new Map<string, RealServer>()): Entry => ({
  server,
  real,
  drainingSince: new Map(),
});

export interface ServerOutcome {
  added: number;
  deleted: number;
  /** By key of the virtual server: why the kernel refused it, or one of its real servers. */
  readonly failures: Map<string, string>;
}

export const noOutcome = (): ServerOutcome => ({ added: 0, deleted: 0, failures: new Map() });

export type WantedServers = (key: string) => WantedServer | null;

export interface VirtualServersOptions {
  readonly ipvs: Pick<IpvsConnection, 'apply' | 'realServers' | 'servers'>;
  /** All real servers of the kernel at once, by key of their virtual server. */
  readonly readRealServers: () => ReadonlyMap<string, readonly RealServerState[]>;
  readonly settings: Pick<IpvsSettings, 'excludeCidrs' | 'drainLimitSeconds'>;
  readonly nowMs: () => number;
}

const sameServer = (a: VirtualServer, b: VirtualServer): boolean =>
  a.scheduler === b.scheduler && a.flags === b.flags && a.timeoutSeconds === b.timeoutSeconds;

export class VirtualServers {
  readonly #options: VirtualServersOptions;
  readonly #excluded: readonly NonNullable<ReturnType<typeof parseCidr>>[];
  #entries = new Map<string, Entry>();
  /** Virtual servers that stay for their connections only, and since when, in milliseconds. */
  readonly #retiringSinceMs = new Map<string, number>();

  constructor(options: VirtualServersOptions) {
    this.#options = options;
    this.#excluded = options.settings.excludeCidrs.flatMap((text) => parseCidr(text) ?? []);
  }

  get(key: string): PresentServer | null {
    return this.#entries.get(key) ?? null;
  }

  keys(): MapIterator<string> {
    return this.#entries.keys();
  }

  /** As they are listed. */
  *listed(): Generator<ListedServer> {
    for (const { server, real } of this.#entries.values()) yield { server, realServers: [...real.values()] };
  }

  /** Forgets everything and reads the kernel; virtual servers of other families are somebody else's. */
  async read(families: readonly Family[]): Promise<void> {
    const servers = await this.#options.ipvs.servers();
    const realServers = this.#realServers(servers.length);
    const entries = new Map<string, Entry>();
    for (const server of servers) {
      if (!families.includes(server.family)) continue;
      const key = serverKey(server);
      const present = realServers(server).map((r): [string, RealServer] => [realServerKey(r), plain(r)]);
      const entry = newEntry(server, new Map(present));
      entry.drainingSince = this.#entries.get(key)?.drainingSince ?? entry.drainingSince;
      entries.set(key, entry);
    }
    this.#entries = entries;
    for (const key of this.#retiringSinceMs.keys()) if (!this.#entries.has(key)) this.#retiringSinceMs.delete(key);
  }

  #realServers(count: number): (server: ServerId) => readonly RealServerState[] {
    return realServerReader(this.#options.ipvs, count, this.#options.readRealServers);
  }

  /** Asks again for the real servers of one: a list of all is not taken in one moment. */
  confirm(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    entry.real.clear();
    for (const real of this.#options.ipvs.realServers(entry.server)) entry.real.set(realServerKey(real), plain(real));
  }

  /** Whether the kernel has something else than is wanted; draining real servers are as wanted. */
  differs(key: string, wanted: WantedServer | null): boolean {
    const entry = this.#entries.get(key);
    if (!wanted) return entry !== undefined && !this.#isExcluded(entry.server.ip) && !this.#retiringSinceMs.has(key);
    if (!entry || !sameServer(entry.server, wanted.server)) return true;
    if (wanted.endpoints.some((endpoint) => entry.real.get(endpoint.key)?.weight !== 1)) return true;
    const keys = new Set(wanted.endpoints.map((endpoint) => endpoint.key));
    return [...entry.real.values()].some((real) => real.weight > 0 && !keys.has(realServerKey(real)));
  }

  /** V-13: virtual servers of others live in these ranges. */
  #isExcluded(ip: string): boolean {
    return this.#excluded.some((cidr) => cidrContains(cidr, ip));
  }

  /**
   * Creates and changes virtual servers and their real servers. Real servers that leave get weight 0; those without
   * connections are removed then, so that no connection can begin in between (V-19).
   */
  async update(keys: Iterable<string>, wanted: WantedServers, firstSync: boolean): Promise<ServerOutcome> {
    const requests: IpvsRequest[] = [];
    const leaving: string[] = [];
    for (const key of keys) {
      const want = wanted(key);
      if (!want) continue;
      const entry = this.#entries.get(key);
      this.#retiringSinceMs.delete(key);
      if (!entry) requests.push({ command: 'newServer', server: want.server });
      else if (!sameServer(entry.server, want.server)) requests.push({ command: 'setServer', server: want.server });
      const { operations, draining } = decideRealServers({
        protocol: want.server.protocol,
        event: 'sync',
        firstSync,
        wanted: want.endpoints,
        present: [...(entry?.real.values() ?? [])],
        connections: () => 1, // nobody is removed before he has weight 0
        drainingSeconds: () => 0,
        drainLimitSeconds: null,
      });
      for (const operation of operations) requests.push(asRequest(want.server, operation));
      if (draining.length > 0) leaving.push(key);
    }
    const outcome = await this.#apply(requests, noOutcome());
    if (leaving.length === 0) return outcome;
    return this.#tick(leaving, wanted, outcome);
  }

  /**
   * Virtual servers that nobody wants any more keep their open connections (S-1), and get no new ones: their real servers
   * get weight 0. Their addresses must stay as long.
   * @returns also the keys of those that stay for now
   */
  async retire(keys: Iterable<string>, wanted: WantedServers): Promise<ServerOutcome & { kept: ReadonlySet<string> }> {
    const leaving = [...keys].filter((key) => {
      const server = this.#entries.get(key)?.server;
      return server?.protocol === 'TCP' && !wanted(key) && !this.#isExcluded(server.ip);
    });
    const open = this.#openConnections(leaving);
    const kept = new Set(leaving.filter((key) => open(key) && !this.#isLate(key)));
    const requests: IpvsRequest[] = [];
    for (const key of leaving) {
      if (!kept.has(key)) {
        this.#retiringSinceMs.delete(key);
        continue;
      }
      const entry = this.#entries.get(key)!;
      if (!this.#retiringSinceMs.has(key)) this.#retiringSinceMs.set(key, this.#options.nowMs());
      for (const destination of entry.real.values()) {
        if (destination.weight === 0) continue;
        requests.push({ command: 'setDestination', server: entry.server, destination: { ...destination, weight: 0 } });
      }
    }
    return { kept, ...(await this.#apply(requests, noOutcome())) };
  }

  /** Those that stay for their connections only. */
  retiring(): VirtualServer[] {
    return [...this.#retiringSinceMs.keys()].flatMap((key) => this.#entries.get(key)?.server ?? []);
  }

  /** Whether a virtual server has connections that are open; those that are closing do not count. */
  #openConnections(keys: readonly string[]): (key: string) => boolean {
    const realServers = this.#realServers(keys.length);
    return (key) => {
      const entry = this.#entries.get(key)!;
      return entry.real.size > 0 && realServers(entry.server).some(({ active }) => active > 0);
    };
  }

  #isLate(key: string): boolean {
    const { nowMs, settings } = this.#options;
    const sinceMs = this.#retiringSinceMs.get(key);
    if (settings.drainLimitSeconds === null || sinceMs === undefined) return false;
    return nowMs() - sinceMs >= settings.drainLimitSeconds * 1000;
  }

  /** Removes virtual servers that are not wanted, but for those to keep. */
  remove(keys: Iterable<string>, wanted: WantedServers, keep: ReadonlySet<string>): Promise<ServerOutcome> {
    const requests: IpvsRequest[] = [];
    for (const key of keys) {
      const entry = this.#entries.get(key);
      if (entry && !wanted(key) && !keep.has(key) && !this.#isExcluded(entry.server.ip))
        requests.push({ command: 'deleteServer', server: entry.server });
    }
    return this.#apply(requests, noOutcome());
  }

  /** Removes drained real servers (V-20). */
  tick(wanted: WantedServers): Promise<ServerOutcome> {
    return this.#tick(this.draining(wanted), wanted, noOutcome());
  }

  /** Keys of virtual servers with real servers that drain: going by the kernel, whoever gave them weight 0 (V-22). */
  draining(wanted: WantedServers): string[] {
    const out: string[] = [];
    for (const [key, { real }] of this.#entries) {
      const want = wanted(key);
      if (want && [...real.values()].some(({ weight }) => weight === 0)) out.push(key);
    }
    return out;
  }

  async #tick(keys: readonly string[], wanted: WantedServers, outcome: ServerOutcome): Promise<ServerOutcome> {
    const realServers = this.#realServers(keys.length);
    const nowMs = this.#options.nowMs();
    const requests: IpvsRequest[] = [];
    for (const key of keys) {
      const entry = this.#entries.get(key);
      const want = wanted(key);
      if (!entry || !want) continue;
      const byKey = new Map(realServers(entry.server).map((state) => [realServerKey(state), state]));
      for (const [name, { weight }] of entry.real) if (weight === 0 && !byKey.has(name)) entry.real.delete(name);
      const since = (real: RealServer): number => entry.drainingSince.get(realServerKey(real)) ?? nowMs;
      const { operations, draining } = decideRealServers({
        protocol: want.server.protocol,
        event: 'tick',
        firstSync: false,
        wanted: want.endpoints,
        present: [...entry.real.values()],
        connections: (real) => {
          const state = byKey.get(realServerKey(real));
          return state ? state.active + state.inactive : 0;
        },
        drainingSeconds: (real) => (nowMs - since(real)) / 1000,
        drainLimitSeconds: this.#options.settings.drainLimitSeconds,
      });
      for (const operation of operations) requests.push(asRequest(entry.server, operation));
      entry.drainingSince = new Map(draining.map((real) => [realServerKey(real), since(real)]));
    }
    return this.#apply(requests, outcome);
  }

  /** Sends requests; what somebody else did meanwhile is corrected once. */
  async #apply(requests: readonly IpvsRequest[], outcome: ServerOutcome, again = true): Promise<ServerOutcome> {
    if (requests.length === 0) return outcome;
    const failures = await this.#options.ipvs.apply(requests);
    const failed = new Map(failures.map((failure) => [failure.request, failure]));
    const corrections: IpvsRequest[] = [];
    const vanished = new Set<string>();
    for (const request of requests) {
      const failure = failed.get(request);
      const key = serverKey(request.server);
      const correction = failure ? this.#correction(failure, vanished) : 'done';
      if (correction === 'done') this.#note(request, outcome);
      else if (correction !== null && again) corrections.push(...correction);
      else if (!outcome.failures.has(key)) outcome.failures.set(key, failure!.error.message);
    }
    return this.#apply(corrections, outcome, false);
  }

  /**
   * What to send instead of a refused request; 'done' when the kernel is as it should be; null when nothing helps.
   * `vanished`: keys of virtual servers that are made anew already.
   */
  #correction({ request, error }: IpvsFailure, vanished: Set<string>): readonly IpvsRequest[] | 'done' | null {
    const { command, server } = request;
    const { code } = error;
    const key = serverKey(server);
    if (command === 'deleteServer') return code === 'ESRCH' ? 'done' : null;
    if (command === 'newServer') return code === 'EEXIST' ? [{ command: 'setServer', server: request.server }] : null;
    if (code === 'ESRCH') {
      // The virtual server has vanished, with all its real servers.
      const known = command === 'setServer' ? request.server : this.#entries.get(key)?.server;
      if (!known) return null;
      const anew = vanished.has(key) ? [] : this.#anew(known);
      vanished.add(key);
      return command === 'setServer' ? [...anew] : [...anew, request];
    }
    if (command === 'newDestination' && code === 'EEXIST') return [{ ...request, command: 'setDestination' }];
    if (command === 'setDestination' && code === 'ENOENT')
      return request.destination.weight === 0 ? 'done' : [{ ...request, command: 'newDestination' }];
    if (command === 'deleteDestination' && code === 'ENOENT') return 'done';
    return null;
  }

  *#anew(server: VirtualServer): Generator<IpvsRequest> {
    const entry = this.#entries.get(serverKey(server));
    yield { command: 'newServer', server };
    for (const destination of entry?.real.values() ?? []) yield { command: 'newDestination', server, destination };
  }

  /** The kernel has done it. */
  #note(request: IpvsRequest, outcome: ServerOutcome): void {
    const key = serverKey(request.server);
    const entry = this.#entries.get(key);
    switch (request.command) {
      case 'newServer':
      case 'setServer':
        if (entry) entry.server = request.server;
        else this.#entries.set(key, newEntry(request.server));
        outcome.added++;
        break;
      case 'deleteServer':
        this.#entries.delete(key);
        this.#retiringSinceMs.delete(key);
        outcome.deleted++;
        break;
      case 'newDestination':
      case 'setDestination':
        entry?.real.set(realServerKey(request.destination), request.destination);
        if (request.destination.weight > 0) entry?.drainingSince.delete(realServerKey(request.destination));
        outcome.added++;
        break;
      case 'deleteDestination':
        entry?.real.delete(realServerKey(request.destination));
        outcome.deleted++;
        break;
    }
  }
}

const plain = ({ ip, port, weight }: RealServerState): RealServer => ({ ip, port, weight });

function asRequest(server: ServerId, { op, server: destination }: RealServerOperation): IpvsRequest {
  if (op === 'delete') return { command: 'deleteDestination', server, destination };
  return { command: op === 'add' ? 'newDestination' : 'setDestination', server, destination };
}
