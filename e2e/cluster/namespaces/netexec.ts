// The parent's side of netexec-main.ts: starts it in a namespace, and makes HTTP requests from there.
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { endAtExit, hasEnded, within } from '../../../test/support/namespaces.ts';
import type { FetchOptions, FetchResult, NetexecOptions, NetexecReply } from './netexec-calls.ts';

const MAIN = fileURLToPath(new URL('./netexec-main.ts', import.meta.url));

export class Netexec {
  readonly name: string;
  /** Its servers listen. Rejects when it ends before. */
  readonly ready: Promise<void>;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #pending = new Map<number, PromiseWithResolvers<FetchResult>>();
  #lastId = 0;

  /** @param role the namespace's */
  constructor(role: string, options: NetexecOptions) {
    this.name = options.name;
    const { NODE_OPTIONS: _, ...env } = process.env;
    const argv = ['--disable-warning=ExperimentalWarning', MAIN, JSON.stringify(options)];
    const child = within(role, () =>
      spawn(process.execPath, argv, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env }),
    );
    this.#child = child;
    if (child.pid !== undefined) endAtExit(child.pid);
    const ready = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    this.ready = ready.promise;
    this.#ended = ended.promise;
    // Whoever waits for it is told; nobody has to.
    ready.promise.catch(() => undefined);
    child.once('exit', (code, signal) => {
      if (child.pid !== undefined) hasEnded(child.pid);
      const error = new Error(`${this.name} ended: ${signal ?? `exit code ${code}`}`);
      ready.reject(error);
      for (const { reject } of this.#pending.values()) reject(error);
      this.#pending.clear();
      ended.resolve();
    });
    child.on('message', ({ id, value, error }: NetexecReply) => {
      if (id === undefined) {
        ready.resolve();
        return;
      }
      const pending = this.#pending.get(id);
      this.#pending.delete(id);
      if (value !== undefined) pending?.resolve(value);
      else pending?.reject(new Error(error));
    });
  }

  /** @throws Error when there is no answer */
  fetch(options: FetchOptions): Promise<FetchResult> {
    const id = ++this.#lastId;
    const pending = Promise.withResolvers<FetchResult>();
    this.#pending.set(id, pending);
    this.#child.send({ id, fetch: options }, (error) => {
      if (error !== null && this.#pending.delete(id)) pending.reject(new Error(`${this.name}: ${error.message}`));
    });
    return pending.promise;
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }
}
