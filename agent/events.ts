// Events that operators look for, as kube-proxy writes them (P-70). Written one after another in the background: nothing
// waits for them, and a failure is only logged.
import type { Log } from './log.ts';
import type { KubeRequest, KubeResponse } from './source/kube-client.ts';
import { type Clock, systemClock } from './sync/clock.ts';

export type EventReason =
  | 'Starting'
  | 'IPVSDeprecation'
  | 'FailedToStartProxierHealthcheck'
  | 'FailedToStartMetricServer'
  | 'FailedToStartServiceHealthcheck';

export interface EventsOptions {
  /** null where there is no API server: events are logged only. */
  readonly client: { send(request: KubeRequest): Promise<KubeResponse> } | null;
  readonly nodeName: string;
  readonly hostName: string;
  readonly log: Log;
  readonly clock?: Clock;
}

/** What an event is about. */
export interface Regarding {
  readonly kind: 'Node' | 'Service';
  /** Absent for a Node. */
  readonly namespace?: string;
  readonly name: string;
  /** As kube-proxy gives it, not the object's: `kubectl describe node` looks for the events of a Node by its name. */
  readonly uid: string;
}

interface Written {
  readonly body: EventObject;
  /** Times it happened. */
  count: number;
  sentMs: number;
}

interface EventObject {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly [field: string]: unknown;
}

const CONTROLLER = 'kube-proxy';
const ATTEMPTS = 12;
const RETRY_MS = 10_000;
const REQUEST_LIMIT_MS = 10_000;
/** A repeated event is told again, as a series, after this long. */
const SERIES_MS = 300_000;
const MOST_WAITING = 100;
/** Different events at once, and how long until one more may be written. */
const BURST = 25;
const REFILL_MS = 300_000;
const LONGEST_NOTE = 1024;

export class Events {
  readonly #options: EventsOptions;
  readonly #clock: Clock;
  readonly #written = new Map<string, Written>();
  readonly #stop = new AbortController();
  #queue: Promise<void> = Promise.resolve();
  #waiting = 0;
  #tokens = BURST;
  #refilledMs: number;
  #serial = 0;

  constructor(options: EventsOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#refilledMs = this.#clock.monotonicMs();
  }

  /** About this Node. */
  node(type: 'Normal' | 'Warning', reason: EventReason, note: string): void {
    const name = this.#options.nodeName;
    this.#emit({ type, reason, action: 'StartKubeProxy', note, regarding: { kind: 'Node', name, uid: name } });
  }

  /** About a Service, `namespace/name`, whose health check node port cannot be opened (P-63). */
  healthCheckFailed({ service, port, error }: { service: string; port: number; error: Error }): void {
    const [namespace = '', name = ''] = service.split('/');
    const note = `node ${this.#options.nodeName} failed to start healthcheck ${JSON.stringify(service)} on port ${port}: ${error.message}`;
    const regarding: Regarding = { kind: 'Service', namespace, name, uid: service };
    this.#emit({ type: 'Warning', reason: 'FailedToStartServiceHealthcheck', action: 'Listen', note, regarding });
  }

  /** Resolves when all events have been written, failed, or `ms` have passed. */
  async settled(ms: number): Promise<void> {
    let cancel = (): void => {};
    const late = new Promise<void>((resolve) => {
      cancel = this.#clock.after(ms, resolve);
    });
    await Promise.race([this.#queue, late]);
    cancel();
  }

  /** Gives up what has not been written. */
  stop(): void {
    this.#stop.abort();
  }

  #emit(event: { type: string; reason: EventReason; action: string; note: string; regarding: Regarding }): void {
    const { client, log } = this.#options;
    if (client === null || this.#stop.signal.aborted) return;
    const key = JSON.stringify(event);
    const known = this.#written.get(key);
    const now = this.#clock.monotonicMs();
    if (known !== undefined) {
      known.count++;
      if (now - known.sentMs < SERIES_MS) return;
      known.sentMs = now;
      this.#enqueue(() => this.#writeSeries(known));
      return;
    }
    if (this.#waiting >= MOST_WAITING || !this.#takeToken(now)) {
      log.debug('too many events, one is left out', { reason: event.reason });
      return;
    }
    const written = { body: this.#object(event), count: 1, sentMs: now };
    this.#written.set(key, written);
    this.#enqueue(() => this.#create(written));
  }

  #takeToken(now: number): boolean {
    const refill = Math.floor((now - this.#refilledMs) / REFILL_MS);
    this.#tokens = Math.min(BURST, this.#tokens + refill);
    this.#refilledMs += refill * REFILL_MS;
    if (refill > 0) this.#forgetOld(now);
    if (this.#tokens === 0) return false;
    this.#tokens--;
    return true;
  }

  #forgetOld(now: number): void {
    for (const [key, { sentMs }] of this.#written) if (now - sentMs > 2 * SERIES_MS) this.#written.delete(key);
  }

  #object(event: { type: string; reason: string; action: string; note: string; regarding: Regarding }): EventObject {
    const { hostName } = this.#options;
    const { regarding, note, ...rest } = event;
    // Many nodes write about the same Service in the same millisecond.
    const nanoseconds = Math.floor((this.#clock.monotonicMs() % 1) * 1e6) + this.#serial++;
    const serial = (BigInt(Math.round(this.#clock.wallMs())) * 1_000_000n + BigInt(nanoseconds)).toString(16);
    return {
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { name: `${regarding.name}.${serial}`, namespace: regarding.namespace ?? 'default' },
      eventTime: this.#microTime(),
      reportingController: CONTROLLER,
      reportingInstance: `${CONTROLLER}-${hostName}`,
      regarding: { apiVersion: 'v1', ...regarding },
      ...rest,
      note: note.slice(0, LONGEST_NOTE),
    };
  }

  /** As the API wants it: with six digits of fractional seconds. */
  #microTime(): string {
    return new Date(this.#clock.wallMs()).toISOString().replace(/Z$/, '000Z');
  }

  #enqueue(write: () => Promise<void>): void {
    this.#waiting++;
    this.#queue = this.#queue.then(write).finally(() => {
      this.#waiting--;
    });
  }

  async #create({ body }: Written): Promise<void> {
    const { namespace } = body.metadata;
    const path = `/apis/events.k8s.io/v1/namespaces/${namespace}/events`;
    await this.#send({ method: 'POST', path, body }, body.reason);
  }

  /** Counts up the event that exists, or writes it anew where it has expired. */
  async #writeSeries(written: Written): Promise<void> {
    const { namespace, name } = written.body.metadata;
    const path = `/apis/events.k8s.io/v1/namespaces/${namespace}/events/${name}`;
    const series = { count: written.count, lastObservedTime: this.#microTime() };
    if ((await this.#send({ method: 'PATCH', path, body: { series } }, written.body.reason)) === 404) {
      written.count = 1;
      await this.#create(written);
    }
  }

  /** @returns the status, or null when no server took it. */
  async #send(request: Omit<KubeRequest, 'signal'>, reason: unknown): Promise<number | null> {
    const { log, client } = this.#options;
    for (let attempt = 1; !this.#stop.signal.aborted; attempt++) {
      const result = await this.#attempt(() => client!.send({ ...request, signal: this.#limited() }));
      if (this.#stop.signal.aborted) return null;
      // It has expired since, or an attempt whose answer was lost has written it.
      if (result.status === (request.method === 'PATCH' ? 404 : 409)) return result.status;
      const passing = result.status === null || result.status === 429 || result.status >= 500;
      if (!passing && result.error === null) return result.status;
      if (!passing || attempt === ATTEMPTS) {
        log.warn('cannot write an event', {
          reason,
          status: result.status,
          err: result.error ?? undefined,
        });
        return result.status;
      }
      await new Promise<void>((resolve) => this.#clock.after(RETRY_MS, resolve));
    }
    return null;
  }

  async #attempt(send: () => Promise<KubeResponse>): Promise<{ status: number | null; error: unknown }> {
    try {
      const { status, body } = await send();
      const text: Buffer[] = [];
      for await (const chunk of body) text.push(chunk);
      const refused = status >= 400;
      return { status, error: refused ? new Error(Buffer.concat(text).toString().slice(0, 300)) : null };
    } catch (error) {
      return { status: null, error };
    }
  }

  #limited(): AbortSignal {
    return AbortSignal.any([this.#stop.signal, AbortSignal.timeout(REQUEST_LIMIT_MS)]);
  }
}
