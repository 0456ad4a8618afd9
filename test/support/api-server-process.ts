// An API server that can be killed: a process with the objects of a store that outlives it.
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Asked, ServerOrder, ServerReport } from './api-server-child.ts';
import { ApiStore, type StoreEvent } from './api-store.ts';
import { endAtExit, hasEnded } from './namespaces.ts';

const CHILD = fileURLToPath(new URL('api-server-child.ts', import.meta.url));

/** One request that a server was asked, in any of its lives. */
export interface AskedRequest {
  /** On performance.now(). */
  readonly atMs: number;
  /** Resource name, such as `services`. */
  readonly kind: string;
  readonly what: Asked;
}

export class ApiServerProcess {
  readonly store = new ApiStore();
  /** Oldest first. */
  readonly asked: AskedRequest[] = [];
  #child: ChildProcess | null = null;
  #serving = false;
  #port = 0;
  #bookmarksStalled = false;

  constructor() {
    this.store.listeners.add((event: StoreEvent) => this.#order({ do: 'replay', event }));
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get serving(): boolean {
    return this.#serving;
  }

  /**
   * Starts a life. With `forgets` the server knows the objects but nothing of their past, as a kube-apiserver does whose
   * watch cache was filled anew; else its history reaches back as far as the store's.
   */
  async start({ forgets = false } = {}): Promise<void> {
    const child = fork(CHILD, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const pid = child.pid!;
    endAtExit(pid);
    child.once('exit', () => hasEnded(pid));
    const report = (said: ServerReport['said']): Promise<ServerReport> =>
      new Promise((resolve, reject) => {
        const listen = (message: ServerReport): void => {
          if (message.said !== said) return;
          child.off('message', listen);
          resolve(message);
        };
        child.on('message', listen);
        child.once('exit', (code, signal) => reject(new Error(`the API server ended with ${signal ?? code}`)));
      });
    await report('ready');
    const serving = report('serving');
    child.on('message', (message: ServerReport) => {
      if (message.said === 'asked')
        this.asked.push({ atMs: performance.now(), kind: message.kind, what: message.what });
    });
    const { version } = this.store;
    const snapshot = this.store.snapshot();
    const store = forgets ? { ...snapshot, history: [], compactedVersion: version } : snapshot;
    // From here on it is told of changes: its objects are those of this moment.
    this.#child = child;
    this.#order({ do: 'serve', port: this.#port, store, bookmarksStalled: this.#bookmarksStalled });
    const answer = await serving;
    if (answer.said === 'serving') this.#port = answer.port;
    this.#serving = true;
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    this.#child = null;
    this.#serving = false;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  }

  /** Ends all watches, in order or by cutting their connections. */
  dropWatches(how: 'end' | 'cut'): void {
    this.#order({ do: 'drop-watches', how });
  }

  /** Forgets changes up to a version. */
  compact(version = this.store.version): void {
    this.store.compact(version);
    this.#order({ do: 'compact', version });
  }

  /** In this life and the ones after it. */
  stallBookmarks(stalled: boolean): void {
    this.#bookmarksStalled = stalled;
    this.#order({ do: 'bookmarks', stalled });
  }

  #order(order: ServerOrder): void {
    // A child that was killed a moment ago may not have been noticed to be gone.
    if (this.#child?.connected) this.#child.send(order, () => {});
  }
}
