// The addresses of the node's interfaces, kept up to date. Those that ipvs mode binds for Services are none of them.
import { IPVS_DEVICE } from '../backends/ipvs/device.ts';
import { listAddresses } from '../native/route/addresses.ts';
import { RouteMonitor } from '../native/route/monitor.ts';
import type { Log } from './log.ts';

export interface Interface {
  readonly name: string;
  readonly addresses: readonly string[];
}

const POLL_MS = 500;

export class Interfaces {
  readonly #log: Log;
  readonly #onChange: () => void;
  #monitor: RouteMonitor | null = null;
  #timer: NodeJS.Timeout | null = null;
  #reading = false;
  #current: readonly Interface[] = [];
  /** Index of the interface that ipvs mode binds to. */
  #ignored: number | null = null;

  constructor(options: { log: Log; onChange: () => void }) {
    this.#log = options.log;
    this.#onChange = options.onChange;
  }

  get current(): readonly Interface[] {
    return this.#current;
  }

  /** Reads once and begins to watch. @throws Error when addresses cannot be read. */
  async start(): Promise<void> {
    this.#monitor = new RouteMonitor();
    await this.#read();
    this.#timer = setInterval(() => this.#poll(), POLL_MS);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#monitor?.close();
    this.#monitor = null;
  }

  #poll(): void {
    try {
      if (this.#reading || this.#monitor?.drain((index) => index === this.#ignored) !== true) return;
    } catch (err) {
      this.#log.warn('cannot watch addresses of the node', { err });
    }
    this.#reading = true;
    const before = JSON.stringify(this.#current);
    this.#read()
      .then(() => {
        if (JSON.stringify(this.#current) !== before) this.#onChange();
      })
      .catch((err: unknown) => this.#log.warn('cannot read addresses of the node', { err }))
      .finally(() => {
        this.#reading = false;
      });
  }

  async #read(): Promise<void> {
    const byName = new Map<string, string[]>();
    for (const { interface: name, index, ip } of await listAddresses()) {
      if (name === IPVS_DEVICE) {
        this.#ignored = index;
        continue;
      }
      const addresses = byName.get(name);
      if (addresses) addresses.push(ip);
      else byName.set(name, [ip]);
    }
    this.#current = [...byName].map(([name, addresses]) => ({ name, addresses }));
  }
}
