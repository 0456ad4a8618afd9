// Lists one kind of objects and watches it for ever, on raw JSON: what was delivered stays valid through any outage,
// and afterwards only the difference is delivered.
//
// The first choice is the streaming list (a watch that begins with all objects), as kube-proxy does it: the server
// serves it from its cache, and each object is parsed and handed over as it arrives. A server that refuses it, or does
// not mark the end of the objects, is asked for a list by pages instead.
import { Breather } from '../../native/breather.ts';
import { describeError, type Log, onceEvery } from '../log.ts';
import { BackOff } from './back-off.ts';
import { ByteLines } from './byte-lines.ts';
import { CredentialsError } from './credentials.ts';
import { KnownObjects } from './known-objects.ts';
import { ApiError, type KubeClient, type KubeResponse, readApiError } from './kube-client.ts';
import { ListItems } from './list-items.ts';
import { identify, isRecord, isSelected, type Resource, trimMetadata } from './selection.ts';
import type { Sink, WatchStatus } from './source.ts';
import { sleep, type Timers } from './timers.ts';
import { Watchdog } from './watchdog.ts';

export interface ListWatchOptions {
  readonly resource: Resource;
  readonly nodeName: string;
  readonly client: Pick<KubeClient, 'server' | 'send'>;
  readonly sink: Sink;
  readonly log: Log;
  readonly timers: Timers;
  /** Ask for a streaming list first; true unless given. */
  readonly streamingList?: boolean;
}

const PAGE_SIZE = 500;
const HEADERS_LIMIT_MS = 75_000;
/** Silence before the end of the initial objects that means the server does not know streaming lists. */
const INITIAL_SILENCE_MS = 10_000;
/** Servers send bookmarks about each minute. Once one has arrived, this much silence means a dead connection. */
const BOOKMARK_SILENCE_MS = 180_000;
const GRACE_MS = 30_000;
/** A watch that lived this long was no failure, nor a list from which watches continued for so long. */
const HEALTHY_MS = 10_000;
/** Nor was one that brought something and lived this long: connections may be cut every few seconds. */
const BRIEF_MS = 1_000;
/** Nothing at all for this long on a watch that then ended: its resourceVersion may be ahead of a restored server. */
const SUSPICIOUS_SILENCE_MS = 120_000;
/** Spreads the lists of all nodes after an event that hits all of them. */
const RELIST_JITTER_MS = 1_000;
const REFUSED_OPTIONAL_MS = 300_000;
const LOG_EVERY_MS = 60_000;
const INITIAL_EVENTS_END = 'k8s.io/initial-events-end';

/** The server cannot do streaming lists. */
class NoStreamingList extends Error {}
/** The state has to be listed anew. */
class Expired extends Error {}

/** One watch request while it runs. */
interface Stream {
  /** True until the last of the initial objects. */
  initial: boolean;
  events: number;
  bookmarks: number;
}

export class ListWatch {
  readonly #o: ListWatchOptions;
  readonly #known: KnownObjects;
  readonly #backOff: BackOff;
  /** For lists that become necessary one after the other; a server that is back after an outage has one due at once. */
  readonly #listBackOff: BackOff;
  readonly #logDue: (key: string) => boolean;
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #streaming: boolean;
  /** Where the watch continues; null when the objects have to be listed. */
  #resourceVersion: string | null = null;
  #lastHeardMs: number | null = null;
  /** The same on the monotonic clock. */
  #heardAtMs: number | null = null;
  #outage = false;
  #lastError: string | null = null;
  /** End of the last list, on the monotonic clock. */
  #listedAtMs = 0;
  #watches = 0;
  #lists = 0;

  constructor(options: ListWatchOptions) {
    this.#o = options;
    this.#known = new KnownObjects(options.resource.kind, options.sink, options.log);
    this.#backOff = new BackOff({ random: () => options.timers.random() });
    this.#listBackOff = new BackOff({ random: () => options.timers.random() });
    this.#logDue = onceEvery(LOG_EVERY_MS, () => options.timers.monotonicMs());
    this.#streaming = options.streamingList ?? true;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  status(): WatchStatus {
    return {
      kind: this.#o.resource.kind,
      source: this.#o.client.server,
      complete: this.#known.complete,
      optional: this.#o.resource.optional,
      lastHeardMs: this.#lastHeardMs,
      silentMs: this.#heardAtMs === null ? null : this.#o.timers.monotonicMs() - this.#heardAtMs,
      outage: this.#outage,
      objects: this.#known.size,
      lastError: this.#lastError ?? this.#known.sinkError,
      watches: this.#watches,
      lists: this.#lists,
    };
  }

  async #run(): Promise<void> {
    const { timers } = this.#o;
    const signal = this.#stop.signal;
    while (!signal.aborted) {
      const startedMs = timers.monotonicMs();
      let heard = false;
      let failure: { err: unknown } | null = null;
      try {
        if (this.#resourceVersion === null && !this.#streaming) await this.#list();
        heard = await this.#watch();
      } catch (err) {
        if (signal.aborted) return;
        failure = { err };
      }
      if (timers.monotonicMs() - startedMs >= HEALTHY_MS) this.#backOff.reset();
      if (heard) this.#backOff.reset();
      const waitMs = failure === null ? this.#backOff.next() : this.#failed(failure.err);
      await sleep(timers, waitMs, signal);
    }
  }

  /** Draws the consequences of a failure; answers how long to wait before the next attempt. */
  #failed(err: unknown): number {
    const { resource, log, timers } = this.#o;
    const { kind } = resource;
    if (err instanceof NoStreamingList || (this.#resourceVersion === null && this.#streaming && isRefusal(err))) {
      this.#streaming = false;
      log.info('Server has no streaming list, using pages', { kind, err });
      return 0;
    }
    this.#lastError = describeError(err);
    if (resource.optional && err instanceof ApiError && (err.status === 403 || err.status === 404)) {
      if (!this.#known.complete) log.warn('Going on without these objects', { kind, err });
      this.#known.markComplete();
      return REFUSED_OPTIONAL_MS;
    }
    if (this.#resourceVersion !== null && isExpiry(err)) {
      this.#resourceVersion = null;
      this.#backOff.reset();
      if (timers.monotonicMs() - this.#listedAtMs >= HEALTHY_MS) this.#listBackOff.reset();
      log.info('Watch cannot be continued, listing again', { kind, err });
      return Math.max(this.#listBackOff.next(), timers.random() * RELIST_JITTER_MS);
    }
    const waitMs = this.#backOff.next(err instanceof ApiError ? err.retryAfterMs : 0);
    if (this.#logDue(this.#lastError))
      log.warn('Watch failed, trying again', { kind, err, retryInMs: Math.round(waitMs) });
    return waitMs;
  }

  /** All pages of a list. The first list is content with the server's cache (as kube-proxy's); later ones are not. */
  async #list(): Promise<void> {
    const version = this.#known.complete ? {} : { resourceVersion: '0' };
    this.#lists++;
    this.#known.beginList();
    const breather = new Breather();
    for (let token = ''; ; ) {
      const query = { limit: String(PAGE_SIZE), ...(token === '' ? version : { continue: token }) };
      const page = await this.#exchange(query, async (response, watchdog) => {
        const items = new ListItems();
        for await (const chunk of response.body) {
          watchdog.heard();
          for (const item of items.push(chunk)) {
            this.#apply(JSON.parse(item));
            if (breather.due) await breather.rest();
          }
        }
        return items.finish();
      });
      this.#heard();
      token = page.continueToken;
      if (token !== '') continue;
      this.#listed(page.resourceVersion);
      return;
    }
  }

  #listed(resourceVersion: string): void {
    this.#resourceVersion = resourceVersion;
    this.#listedAtMs = this.#o.timers.monotonicMs();
    this.#known.endList();
  }

  /** One watch request until the server ends it; answers whether anything was heard. Begins with a list if need be. */
  async #watch(): Promise<boolean> {
    const { timers } = this.#o;
    const timeoutSeconds = 300 + Math.floor(timers.random() * 301);
    const stream: Stream = { initial: this.#resourceVersion === null, events: 0, bookmarks: 0 };
    const query = {
      watch: 'true',
      allowWatchBookmarks: 'true',
      timeoutSeconds: String(timeoutSeconds),
      ...(this.#resourceVersion === null
        ? { sendInitialEvents: 'true', resourceVersionMatch: 'NotOlderThan' }
        : { resourceVersion: this.#resourceVersion }),
    };
    this.#watches++;
    if (stream.initial) {
      this.#lists++;
      this.#known.beginList();
    }
    const startedMs = timers.monotonicMs();
    try {
      await this.#exchange(query, (response, watchdog) =>
        this.#follow(response, watchdog, stream, timeoutSeconds * 1000),
      );
    } finally {
      const silent = stream.events + stream.bookmarks === 0;
      const livedMs = timers.monotonicMs() - startedMs;
      if (silent && livedMs >= SUSPICIOUS_SILENCE_MS) this.#resourceVersion = null;
      if (!silent && !stream.initial && livedMs >= BRIEF_MS) this.#backOff.reset();
    }
    return stream.events + stream.bookmarks > 0;
  }

  async #follow(response: KubeResponse, watchdog: Watchdog, stream: Stream, timeoutMs: number): Promise<void> {
    const limits = (): void => {
      if (stream.initial) {
        watchdog.limit(INITIAL_SILENCE_MS, () => new NoStreamingList('initial objects did not end'));
        return;
      }
      const ms = stream.bookmarks > 0 ? BOOKMARK_SILENCE_MS : timeoutMs + GRACE_MS;
      watchdog.limit(ms, () => new Error(`nothing received for ${ms / 1000} s`));
    };
    limits();
    const lines = new ByteLines();
    const breather = new Breather();
    for await (const chunk of response.body) {
      watchdog.heard();
      for (const line of lines.push(chunk)) {
        const { initial, bookmarks } = stream;
        this.#event(line, stream);
        this.#heard();
        if (stream.initial !== initial || (bookmarks === 0 && stream.bookmarks > 0)) limits();
        if (breather.due) await breather.rest();
      }
    }
    if (lines.pendingBytes > 0) throw new Error('watch stream was cut in the middle of a line');
    if (stream.initial) throw new Error('watch stream ended before all initial objects had been sent');
  }

  #event(line: string, stream: Stream): void {
    let event: unknown;
    try {
      event = JSON.parse(line);
    } catch (cause) {
      throw new Error(`unreadable line in watch stream: ${JSON.stringify(line.slice(0, 80))}`, { cause });
    }
    const { type, object } = isRecord(event) ? event : {};
    if (type === 'BOOKMARK') {
      this.#bookmark(object, stream);
    } else if (type === 'ADDED' || type === 'MODIFIED' || type === 'DELETED') {
      stream.events++;
      this.#change(type, object, stream.initial);
    } else if (type === 'ERROR') {
      throw ApiError.fromStatus(`watch ${this.#o.resource.path}`, object);
    } else {
      throw new Error(`unknown event in watch stream: ${JSON.stringify(line.slice(0, 80))}`);
    }
  }

  #bookmark(object: unknown, stream: Stream): void {
    const metadata = isRecord(object) && isRecord(object.metadata) ? object.metadata : {};
    const { resourceVersion, annotations } = metadata;
    if (typeof resourceVersion !== 'string' || resourceVersion === '')
      throw new Error('bookmark without resourceVersion');
    if (stream.initial) {
      if (!isRecord(annotations) || annotations[INITIAL_EVENTS_END] !== 'true') {
        throw new NoStreamingList('bookmark before the end of the initial objects');
      }
      stream.initial = false;
      stream.events++;
      this.#listed(resourceVersion);
      return;
    }
    stream.bookmarks++;
    this.#advance(resourceVersion);
  }

  #change(type: 'ADDED' | 'MODIFIED' | 'DELETED', object: unknown, initial: boolean): void {
    const identity = identify(object);
    if (identity !== null && !initial) {
      const { resourceVersion } = identity;
      const known = this.#known.versionOf(identity);
      const repeated = type === 'DELETED' ? known === undefined : known === resourceVersion;
      if (repeated && isOlder(resourceVersion, this.#resourceVersion)) return;
      this.#advance(resourceVersion);
    }
    if (type !== 'DELETED') this.#apply(object);
    else if (identity !== null) this.#known.remove(identity);
  }

  #apply(object: unknown): void {
    const { resource, nodeName, log } = this.#o;
    const identity = identify(object);
    if (identity === null) {
      if (this.#logDue('nameless')) log.warn('Ignoring an object without metadata.name', { kind: resource.kind });
      return;
    }
    if (!isSelected(resource.kind, identity, object, nodeName)) {
      this.#known.remove(identity);
      return;
    }
    trimMetadata(object);
    this.#known.apply(identity, identity.resourceVersion, object);
  }

  /** Moves on to the version of an event. A step back means that the server's state was replaced by an older one. */
  #advance(resourceVersion: string): void {
    if (isOlder(resourceVersion, this.#resourceVersion)) {
      throw new Expired(`resourceVersion went back from ${this.#resourceVersion} to ${resourceVersion}`);
    }
    if (resourceVersion !== '') this.#resourceVersion = resourceVersion;
  }

  #heard(): void {
    this.#lastHeardMs = this.#o.timers.wallMs();
    this.#heardAtMs = this.#o.timers.monotonicMs();
    this.#lastError = null;
  }

  /** Sends one GET with the selectors and reads the answer; throws ApiError for any status but 200. */
  async #exchange<T>(
    query: Record<string, string>,
    read: (response: KubeResponse, watchdog: Watchdog) => Promise<T>,
  ): Promise<T> {
    const { resource, client, timers } = this.#o;
    const { path, labelSelector, fieldSelector } = resource;
    const search = new URLSearchParams({
      ...query,
      ...(labelSelector !== '' && { labelSelector }),
      ...(fieldSelector !== '' && { fieldSelector }),
    });
    const silence = () => new Error(`GET ${path}: no answer for ${HEADERS_LIMIT_MS / 1000} s`);
    const watchdog = new Watchdog(timers, this.#stop.signal, HEADERS_LIMIT_MS, silence);
    try {
      const response = await client.send({ path: `${path}?${search}`, signal: watchdog.signal }).catch((err) => {
        this.#outage = !(err instanceof CredentialsError);
        throw err;
      });
      this.#outage = response.status >= 500 || response.status === 429;
      if (response.status !== 200) throw await readApiError(`GET ${path}`, response, timers.wallMs());
      return await read(response, watchdog);
    } finally {
      watchdog.stop();
    }
  }
}

/** The server does not accept the request as such. */
function isRefusal(err: unknown): boolean {
  return err instanceof ApiError && (err.status === 400 || err.status === 422);
}

/** The resourceVersion is too old, too new, or not accepted. */
function isExpiry(err: unknown): boolean {
  if (err instanceof Expired) return true;
  return (
    err instanceof ApiError && (err.status === 410 || isRefusal(err) || /too large resource version/i.test(err.message))
  );
}

/** Compares resourceVersions, which are decimal numbers of any size; false when either is something else. */
export function isOlder(a: string, b: string | null): boolean {
  if (b === null || !/^\d+$/.test(a) || !/^\d+$/.test(b)) return false;
  return a.length === b.length ? a < b : a.length < b.length;
}
