// What a source has delivered so far, so that after any interruption only the difference is delivered.
import { describeError, type Log } from '../log.ts';
import type { Kind, Sink } from './source.ts';

export interface ObjectName {
  readonly namespace: string;
  readonly name: string;
}

/** Keeps one version text per object, not the object. A Sink that throws is reported and counts as having taken the object. */
export class KnownObjects {
  readonly #kind: Kind;
  readonly #sink: Sink;
  readonly #log: Log;
  readonly #versions = new Map<string, string>();
  #listed: Set<string> | null = null;
  #complete = false;
  #sinkError: string | null = null;

  constructor(kind: Kind, sink: Sink, log: Log) {
    this.#kind = kind;
    this.#sink = sink;
    this.#log = log;
  }

  get size(): number {
    return this.#versions.size;
  }

  get complete(): boolean {
    return this.#complete;
  }

  /** The last error thrown by the Sink. */
  get sinkError(): string | null {
    return this.#sinkError;
  }

  versionOf(object: ObjectName): string | undefined {
    return this.#versions.get(keyOf(object));
  }

  /** Delivers the object unless this version of it was delivered before; an empty version always counts as new. */
  apply(name: ObjectName, version: string, object: unknown): void {
    const key = keyOf(name);
    this.#listed?.add(key);
    if (version !== '' && this.#versions.get(key) === version) return;
    this.#versions.set(key, version);
    this.#deliver(key, () => this.#sink.apply(this.#kind, object));
  }

  remove(name: ObjectName): void {
    this.#removeKey(keyOf(name));
  }

  /** From here to `endList`, objects that are applied are known to exist. */
  beginList(): void {
    this.#listed = new Set();
  }

  /** Marks an object as existing without delivering it. */
  keep(name: ObjectName): void {
    this.#listed?.add(keyOf(name));
  }

  /** Removes the objects that the list did not mention, and reports the kind complete the first time. */
  endList(): void {
    const listed = this.#listed;
    this.#listed = null;
    if (listed !== null) for (const key of this.#versions.keys()) if (!listed.has(key)) this.#removeKey(key);
    this.markComplete();
  }

  markComplete(): void {
    if (this.#complete) return;
    this.#complete = true;
    this.#deliver('', () => this.#sink.complete(this.#kind));
  }

  #removeKey(key: string): void {
    this.#listed?.delete(key);
    if (!this.#versions.delete(key)) return;
    const slash = key.indexOf('/');
    this.#deliver(key, () => this.#sink.remove(this.#kind, key.slice(0, slash), key.slice(slash + 1)));
  }

  #deliver(key: string, call: () => void): void {
    try {
      call();
    } catch (err) {
      this.#sinkError = `${this.#kind} ${key}: ${describeError(err)}`;
      this.#log.error('Object could not be taken over', { kind: this.#kind, object: key, err });
    }
  }
}

function keyOf({ namespace, name }: ObjectName): string {
  return `${namespace}/${name}`;
}
