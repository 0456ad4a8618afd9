// Watches the configuration file (P-27): the agent ends when it is written or renamed, to be started with the new one.
// Its removal is none of that: updates of a mounted ConfigMap switch a link and remove the old file.
import { closeSync, type FSWatcher, fstatSync, openSync, readFileSync, readSync, watch } from 'node:fs';

/** Editors write in several steps; the file shall be complete when the agent reads it again. */
const SETTLE_MS = 100;

export interface ConfigFileWatchOptions {
  readonly path: string;
  /** Called once, with what happened. */
  readonly onChange: (what: string) => void;
  /** The file cannot be watched. */
  readonly onError: (error: unknown) => void;
}

export class ConfigFileWatch {
  readonly #options: ConfigFileWatchOptions;
  /** Held open, so that the file that was read can be told from one that took its name. */
  #fd: number | null = null;
  #text = Buffer.alloc(0);
  #watcher: FSWatcher | null = null;
  #timer: NodeJS.Timeout | null = null;
  #event: 'rename' | 'change' = 'change';

  constructor(options: ConfigFileWatchOptions) {
    this.#options = options;
  }

  start(): void {
    const { path, onError } = this.#options;
    try {
      this.#fd = openSync(path, 'r');
      this.#text = readFileSync(path);
      this.#watcher = watch(path, { persistent: false }, (event) => this.#later(event));
      this.#watcher.on('error', onError);
    } catch (error) {
      onError(error);
    }
  }

  stop(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#watcher?.close();
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
    this.#watcher = null;
  }

  /** What an event means; null when it is no reason to end. */
  judge(event: 'rename' | 'change'): string | null {
    const { path } = this.#options;
    if (this.#fd === null) return null;
    const { nlink, size } = fstatSync(this.#fd);
    if (nlink === 0) return null;
    if (event === 'rename') return `the configuration file ${path} was renamed`;
    const now = Buffer.alloc(size);
    const bytes = readSync(this.#fd, now, 0, size, 0);
    return now.subarray(0, bytes).equals(this.#text) ? null : `the configuration file ${path} was written`;
  }

  #later(event: 'rename' | 'change'): void {
    if (event === 'rename') this.#event = event;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      const what = this.judge(this.#event);
      if (what === null) return;
      this.stop();
      this.#options.onChange(what);
    }, SETTLE_MS);
  }
}
