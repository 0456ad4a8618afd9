// The API servers that may be asked, and the one in use: the first that works is kept until it fails, then the next
// one's turn comes, round and round. No I/O.

/** Answers 500 and above in a row, without any other between them, after which a server counts as failed. */
const ERRORS_IN_A_ROW = 3;

export class ServerList {
  readonly #servers: string[];
  #current = 0;
  #errors = 0;

  /** URLs in the order of preference, at least one. Repeated ones count once. */
  constructor(servers: readonly string[]) {
    this.#servers = [...new Set(servers)];
  }

  get current(): string {
    return this.#servers[this.#current]!;
  }

  get all(): readonly string[] {
    return this.#servers;
  }

  /** Appends a server of last resort. */
  add(server: string): void {
    if (!this.#servers.includes(server)) this.#servers.push(server);
  }

  /** In which order a request tries the servers: the one in use first. */
  candidates(): string[] {
    return [...this.#servers.slice(this.#current), ...this.#servers.slice(0, this.#current)];
  }

  /** A request could not be sent to it. Requests that run at the same time move on by one server, not by one each. */
  failed(server: string): void {
    if (server !== this.current) return;
    this.#current = (this.#current + 1) % this.#servers.length;
    this.#errors = 0;
  }

  /** It answered with this status. */
  answered(server: string, status: number): void {
    if (server !== this.current) return;
    this.#errors = status >= 500 ? this.#errors + 1 : 0;
    if (this.#errors >= ERRORS_IN_A_ROW) this.failed(server);
  }
}
