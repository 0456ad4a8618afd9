// What a source of objects (API server or manifests) delivers, and to whom.

export type Kind = 'Service' | 'EndpointSlice' | 'Node' | 'ServiceCIDR';
export const KINDS: readonly Kind[] = ['Service', 'EndpointSlice', 'Node', 'ServiceCIDR'];

/** Receives objects. `object` is raw JSON as read; the receiver validates it and keeps only what it needs. */
export interface Sink {
  /** Added or changed. */
  apply(kind: Kind, object: unknown): void;
  /** Gone, or no longer selected. */
  remove(kind: Kind, namespace: string, name: string): void;
  /** All objects of the kind that exist now have been delivered; called once per kind. */
  complete(kind: Kind): void;
}

/** Age and state of one watch, for status and health. Times are milliseconds since the epoch. */
export interface WatchStatus {
  readonly kind: Kind;
  readonly source: string;
  readonly complete: boolean;
  /** The agent does without it where the source has none (P-91). */
  readonly optional: boolean;
  /** Last list, event or bookmark received; null before the first. */
  readonly lastHeardMs: number | null;
  /** How long nothing has been received, on a clock that is never set; null before the first. */
  readonly silentMs: number | null;
  /** The last attempt met no server, or one that is in trouble (no connection, no answer, 429 or 500 and above). */
  readonly outage: boolean;
  /** Number of objects held. */
  readonly objects: number;
  readonly lastError: string | null;
  /** Watch requests so far: one more than restarts. 0 where nothing is watched over the network. */
  readonly watches: number;
  /** Complete lists asked for so far, streaming ones included. */
  readonly lists: number;
}

export interface Source {
  /** Begins delivering; never throws for a source that is unreachable, retries instead. */
  start(sink: Sink): void;
  stop(): Promise<void>;
  status(): WatchStatus[];
}
