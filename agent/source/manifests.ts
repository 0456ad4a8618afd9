// Files and folders of manifests as a source. They are read at the start and at every change; differences are delivered.
import { type FSWatcher, watch } from 'node:fs';
import type { Log } from '../log.ts';
import { KnownObjects } from './known-objects.ts';
import { ManifestReader } from './manifest-set.ts';
import { trimMetadata } from './selection.ts';
import { KINDS, type Kind, type Sink, type Source, type WatchStatus } from './source.ts';
import { systemTimers, type Timers } from './timers.ts';

export interface ManifestsSourceOptions {
  /** Files or folders. */
  readonly paths: readonly string[];
  /** Only this Node is delivered. */
  readonly nodeName: string;
  readonly log: Log;
  readonly timers?: Timers;
}

/** Editors and kubectl write in several steps. */
const DEBOUNCE_MS = 100;
/** For file systems that report no changes. */
const POLL_MS = 30_000;

export class ManifestsSource implements Source {
  readonly #options: ManifestsSourceOptions;
  readonly #timers: Timers;
  readonly #reader: ManifestReader;
  readonly #known = new Map<Kind, KnownObjects>();
  readonly #watchers = new Map<string, FSWatcher>();
  #cancel: () => void = () => {};
  #dueMs = Number.POSITIVE_INFINITY;
  #reading: Promise<void> | null = null;
  #readAgain = false;
  #stopped = false;
  #lastHeardMs: number | null = null;
  #errors: readonly string[] = [];

  constructor(options: ManifestsSourceOptions) {
    this.#options = options;
    this.#timers = options.timers ?? systemTimers;
    this.#reader = new ManifestReader(options.paths, options.nodeName);
  }

  start(sink: Sink): void {
    for (const kind of KINDS) this.#known.set(kind, new KnownObjects(kind, sink, this.#options.log));
    this.#read();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel();
    for (const watcher of this.#watchers.values()) watcher.close();
    await this.#reading;
  }

  status(): WatchStatus[] {
    return [...this.#known].map(([kind, known]) => ({
      kind,
      source: this.#options.paths.join(', '),
      complete: known.complete,
      optional: false,
      lastHeardMs: this.#lastHeardMs,
      // What cannot be read is told as an error; there is no connection that could hang.
      silentMs: this.#lastHeardMs === null ? null : 0,
      outage: this.#errors.length > 0,
      objects: known.size,
      lastError: this.#errors[0] ?? known.sinkError,
      watches: 0,
      lists: 0,
    }));
  }

  #read(): void {
    this.#cancel();
    this.#dueMs = Number.POSITIVE_INFINITY;
    if (this.#reading !== null) {
      this.#readAgain = true;
      return;
    }
    this.#readAgain = false;
    this.#reading = this.#readOnce().finally(() => {
      this.#reading = null;
      if (this.#stopped) return;
      if (this.#readAgain) this.#read();
      else this.#readWithin(POLL_MS);
    });
  }

  /** Does not postpone a reading that is due earlier, so that steady changes cannot starve it. */
  #readWithin(ms: number): void {
    const dueMs = this.#timers.monotonicMs() + ms;
    if (this.#stopped || dueMs >= this.#dueMs) return;
    this.#cancel();
    this.#dueMs = dueMs;
    this.#cancel = this.#timers.after(ms, () => this.#read());
  }

  async #readOnce(): Promise<void> {
    const { objects, errors, folders, complete } = await this.#reader.read();
    if (this.#stopped) return;
    this.#watchOnly(folders);
    this.#report(errors);
    if (!complete) return;
    this.#lastHeardMs = this.#timers.wallMs();
    for (const known of this.#known.values()) known.beginList();
    for (const { kind, version, object, ...name } of objects) {
      const known = this.#known.get(kind);
      if (known?.versionOf(name) === version) {
        known.keep(name);
        continue;
      }
      // The reader keeps its objects, so the receiver gets a copy.
      const copy = structuredClone(object);
      trimMetadata(copy);
      known?.apply(name, version, copy);
    }
    for (const known of this.#known.values()) known.endList();
  }

  #report(errors: readonly string[]): void {
    const before = new Set(this.#errors);
    for (const error of errors)
      if (!before.has(error)) this.#options.log.error('Manifest cannot be used', { err: error });
    this.#errors = errors;
  }

  /**
   * Watches each folder by itself: Node's recursive watch misses links that are switched, as in mounted ConfigMaps.
   * A folder that was not watched while it was read is read again.
   */
  #watchOnly(folders: readonly string[]): void {
    for (const [folder, watcher] of this.#watchers) if (!folders.includes(folder)) this.#unwatch(folder, watcher);
    for (const folder of folders) {
      if (this.#watchers.has(folder)) continue;
      try {
        const watcher = watch(folder);
        watcher.on('change', () => this.#readWithin(DEBOUNCE_MS));
        watcher.on('error', () => this.#unwatch(folder, watcher));
        this.#watchers.set(folder, watcher);
        this.#readAgain = true;
      } catch (err) {
        this.#options.log.debug('Folder cannot be watched', { folder, err });
      }
    }
  }

  #unwatch(folder: string, watcher: FSWatcher): void {
    watcher.close();
    this.#watchers.delete(folder);
  }
}
