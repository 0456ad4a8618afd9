// The test's side of a host: starts host-main.ts in the host's namespace when it is first needed, and calls it.
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Attempt, CallName, CallOptions, CallResult, ConnectOptions, Reply } from './host-calls.ts';
import { endAtExit, hasEnded, within } from './namespaces.ts';

const MAIN = fileURLToPath(new URL('./host-main.ts', import.meta.url));

interface Pending {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class Host {
  readonly name: string;
  /** IPv4 and IPv6 addresses, as given. */
  readonly ips: readonly string[];
  #child: ChildProcess | null = null;
  #lastId = 0;
  readonly #pending = new Map<number, Pending>();

  constructor(name: string, ips: readonly string[]) {
    this.name = name;
    this.ips = ips;
  }

  /** The address of a family; throws when the host has none. */
  ip(family: 'IPv4' | 'IPv6'): string {
    const found = this.ips.find((ip) => ip.includes(':') === (family === 'IPv6'));
    if (found === undefined) throw new Error(`host ${this.name} has no ${family} address`);
    return found;
  }

  /** Id of the process in the namespace, undefined before the first call. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  #start(): ChildProcess {
    const { NODE_OPTIONS: _, ...env } = process.env;
    const child = within(this.name, () =>
      spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN, this.name], {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
        serialization: 'advanced',
        env,
      }),
    );
    if (child.pid !== undefined) endAtExit(child.pid);
    const ended = (why: string): void => {
      if (child.pid !== undefined) hasEnded(child.pid);
      this.#child = null;
      for (const { reject } of this.#pending.values()) reject(new Error(`host ${this.name} ended: ${why}`));
      this.#pending.clear();
    };
    child.once('exit', (code, signal) => ended(`${signal ?? `exit code ${code}`}`));
    child.once('error', (error) => ended(error.message));
    child.on('message', ({ id, value, error }: Reply) => {
      const pending = this.#pending.get(id);
      this.#pending.delete(id);
      if (error === undefined) pending?.resolve(value);
      else pending?.reject(new Error(error));
      if (this.#pending.size === 0) this.#hold(child, false);
    });
    return child;
  }

  /** An idle host does not keep the test's process alive. */
  #hold(child: ChildProcess, held: boolean): void {
    if (held) {
      child.ref();
      child.channel?.ref();
    } else {
      child.unref();
      child.channel?.unref();
    }
  }

  /** Calls the process in the namespace. @throws Error with the host's name and what went wrong there. */
  call<K extends CallName>(call: K, options: CallOptions<K>): Promise<Awaited<CallResult<K>>> {
    const child = (this.#child ??= this.#start());
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as Pending['resolve'], reject });
      this.#hold(child, true);
      child.send({ id, call, options }, (error) => {
        if (error === null) return;
        this.#pending.delete(id);
        reject(new Error(`host ${this.name}: ${error.message}`, { cause: error }));
      });
    });
  }

  /** A single attempt. */
  async dial(options: Omit<ConnectOptions, 'count' | 'width'>): Promise<Attempt> {
    const [first] = await this.call('connect', { ...options, count: 1 });
    return first!;
  }

  /** Ends the process in the namespace, with its servers, flows and loads. */
  async stop(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    await new Promise<void>((resolve) => {
      // As a call that its end settles; it holds the test's process until then.
      this.#pending.set(++this.#lastId, { resolve: () => resolve(), reject: () => resolve() });
      this.#hold(child, true);
      child.kill('SIGKILL');
    });
  }
}
