// Health check node ports (P-60…P-64): one HTTP server per Service and family, told apart by port. `set` records what is
// wanted, `apply` opens and closes; work is proportional to what changed, plus the servers that could not be opened.
import { createServer, type Server } from 'node:http';
import type { Family } from '../../native/ip.ts';
import type { HealthCheckPort } from '../plan/health-check-ports.ts';
import { close, type ListenOptions, listen, send } from './listen.ts';

export interface ServiceHealthFailure {
  readonly service: string;
  readonly family: Family;
  readonly port: number;
  readonly error: Error;
}

export interface ServiceHealthOptions {
  /** Addresses to listen on per family, loopback included: 'all', or one listener each. Fixed at start-up (S-55a). */
  addresses: Readonly<Record<Family, 'all' | readonly string[]>>;
  /** Health of all families (P-46); always true when there is no health server (P-64). */
  proxyHealthy: () => boolean;
  /** Told once per server and cause when it cannot be opened; `apply` goes on trying. */
  onFailure: (failure: ServiceHealthFailure) => void;
}

interface Entry {
  readonly service: string;
  readonly family: Family;
  wanted: { port: number; localEndpoints: number } | null;
  open: { port: number; servers: readonly Server[] } | null;
  /** The last failure to open, so that it is told once. */
  failure: { readonly port: number; readonly message: string } | null;
}

export class ServiceHealthServers {
  readonly #options: ServiceHealthOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #dirty = new Set<Entry>();
  #applying: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: ServiceHealthOptions) {
    this.#options = options;
  }

  /** Records what is wanted for a Service and family; null = no server. A new count answers at once, ports wait for `apply`. */
  set(service: string, family: Family, wanted: { port: number; localEndpoints: number } | null): void {
    const key = `${family} ${service}`;
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      if (wanted === null) return;
      entry = { service, family, wanted: null, open: null, failure: null };
      this.#entries.set(key, entry);
    }
    entry.wanted = wanted === null ? null : { ...wanted };
    if (entry.open?.port !== wanted?.port) this.#dirty.add(entry);
  }

  /** Opens and closes what `set` asked for; call it after every successful sync (P-60). Calls run one after the other. */
  apply(): Promise<void> {
    if (this.#dirty.size > 0) this.#applying = this.#applying.then(() => this.#applyDirty());
    return this.#applying;
  }

  /** Makes exactly these the wanted servers, and applies. */
  reconcile(desired: readonly HealthCheckPort[]): Promise<void> {
    const kept = new Set(desired.map((d) => `${d.family} ${d.service}`));
    for (const [key, entry] of this.#entries) if (!kept.has(key)) this.set(entry.service, entry.family, null);
    for (const { service, family, port, localEndpoints } of desired)
      this.set(service, family, { port, localEndpoints });
    return this.apply();
  }

  /** Servers that are open now. */
  open(): HealthCheckPort[] {
    return [...this.#entries.values()].flatMap(({ service, family, open, wanted }) =>
      open === null ? [] : [{ service, family, port: open.port, localEndpoints: wanted?.localEndpoints ?? 0 }],
    );
  }

  /** Servers that are wanted and could not be opened; with the message of the last attempt. */
  failed(): { service: string; port: number; message: string }[] {
    return [...this.#dirty].flatMap(({ service, wanted, failure }) =>
      failure === null || wanted?.port !== failure.port ? [] : [{ service, ...failure }],
    );
  }

  /** Closes everything, for good. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#applying;
    for (const entry of this.#entries.values()) closeEntry(entry);
    this.#entries.clear();
    this.#dirty.clear();
  }

  async #applyDirty(): Promise<void> {
    if (this.#stopped) return;
    const entries = [...this.#dirty];
    this.#dirty.clear();
    // All that close come first: a port may move from one Service to another.
    for (const entry of entries) {
      if (entry.open !== null && entry.open.port !== entry.wanted?.port) closeEntry(entry);
    }
    for (const entry of entries) {
      if (entry.wanted === null) this.#forget(entry);
      else if (entry.open === null) await this.#openEntry(entry, entry.wanted.port);
    }
  }

  #forget(entry: Entry): void {
    const key = `${entry.family} ${entry.service}`;
    if (this.#entries.get(key) === entry) this.#entries.delete(key);
  }

  async #openEntry(entry: Entry, port: number): Promise<void> {
    const servers: Server[] = [];
    try {
      for (const options of this.#listeners(entry.family, port)) {
        const server = this.#server(entry);
        await listen(server, options);
        servers.push(server);
        server.on('error', (error) => this.#report(entry, port, error)); // a connection could not be accepted
      }
      entry.open = { port, servers };
      entry.failure = null;
      // It may have changed while it was being opened.
      if (entry.wanted?.port !== port) this.#dirty.add(entry);
    } catch (thrown) {
      for (const server of servers) close(server);
      this.#dirty.add(entry);
      this.#report(entry, port, thrown as Error);
    }
  }

  #report(entry: Entry, port: number, error: Error): void {
    const { message } = error;
    if (entry.failure?.port === port && entry.failure.message === message) return;
    entry.failure = { port, message };
    this.#options.onFailure({ service: entry.service, family: entry.family, port, error });
  }

  #listeners(family: Family, port: number): ListenOptions[] {
    const addresses = this.#options.addresses[family];
    const hosts = addresses === 'all' ? [family === 'IPv4' ? '0.0.0.0' : '::'] : addresses;
    return hosts.map((host) => ({ host, port, ...(family === 'IPv6' && { ipv6Only: true }) }));
  }

  #server(entry: Entry): Server {
    return createServer((request, response) => {
      request.resume();
      const local = entry.wanted?.localEndpoints ?? 0;
      const answer = serviceHealthAnswer(entry.service, local, this.#options.proxyHealthy());
      send(response, answer.status, answer.headers, JSON.stringify(answer.body));
    });
  }
}

function closeEntry(entry: Entry): void {
  for (const server of entry.open?.servers ?? []) close(server);
  entry.open = null;
}

export interface ServiceHealthAnswer {
  readonly status: 200 | 503;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: {
    readonly service: { readonly namespace: string; readonly name: string };
    readonly localEndpoints: number;
    readonly serviceProxyHealthy: boolean;
  };
}

/** What a health check node port says (P-61, P-62); `service` is `namespace/name`. */
export function serviceHealthAnswer(
  service: string,
  localEndpoints: number,
  proxyHealthy: boolean,
): ServiceHealthAnswer {
  const slash = service.indexOf('/');
  return {
    status: localEndpoints > 0 && proxyHealthy ? 200 : 503,
    headers: {
      'Content-Type': 'application/json',
      'X-Content-Type-Options': 'nosniff',
      'X-Load-Balancing-Endpoint-Weight': String(localEndpoints),
    },
    body: {
      service: { namespace: service.slice(0, slash), name: service.slice(slash + 1) },
      localEndpoints,
      serviceProxyHealthy: proxyHealthy,
    },
  };
}
