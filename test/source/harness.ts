// A test API server, a source on it and a Sink that remembers, with the source's waiting times under the test's control.
import type { Test } from 'tap';
import type { Log } from '../../agent/log.ts';
import { ApiServerSource } from '../../agent/source/api-server.ts';
import { KubeClient } from '../../agent/source/kube-client.ts';
import type { Kind, Sink, WatchStatus } from '../../agent/source/source.ts';
import type { Timers } from '../../agent/source/timers.ts';
import { TestApiServer, type TestApiServerOptions } from '../support/api-server.ts';
import type { ApiObject } from '../support/api-store.ts';
import { FakeClock } from '../support/fake-clock.ts';

export const NODE_NAME = 'node-0';

/** Remembers calls as words (`+Service default/a`, `-Service default/a`, `=Service`) and what exists now. */
export class RecordingSink implements Sink {
  readonly calls: string[] = [];
  readonly objects = new Map<string, unknown>();
  throwOn: string | null = null;

  apply(kind: Kind, object: unknown): void {
    const { namespace = '', name } = (object as ApiObject).metadata;
    const key = `${kind} ${namespace}/${name}`;
    this.calls.push(`+${key}`);
    if (key === this.throwOn) throw new Error(`cannot take ${key}`);
    this.objects.set(key, object);
  }

  remove(kind: Kind, namespace: string, name: string): void {
    this.calls.push(`-${kind} ${namespace}/${name}`);
    this.objects.delete(`${kind} ${namespace}/${name}`);
  }

  complete(kind: Kind): void {
    this.calls.push(`=${kind}`);
  }

  /** Calls since the last `take`, of one kind if given. */
  take(kind: Kind): string[] {
    const taken = this.calls.filter((call) => call.slice(1).split(' ')[0] === kind);
    this.calls.length = 0;
    return taken;
  }
}

/** Keeps the messages. */
export class RecordingLog implements Log {
  readonly lines: string[] = [];
  error = (msg: string, fields?: object) => this.#add('error', msg, fields);
  warn = (msg: string, fields?: object) => this.#add('warn', msg, fields);
  info = (msg: string, fields?: object) => this.#add('info', msg, fields);
  debug = (msg: string, fields?: object) => this.#add('debug', msg, fields);

  count(text: string): number {
    return this.lines.filter((line) => line.includes(text)).length;
  }

  #add(level: string, msg: string, fields?: object): void {
    this.lines.push(
      `${level} ${msg} ${Object.values(fields ?? {})
        .map(String)
        .join(' ')}`,
    );
  }
}

const BACK_OFF_MS = new Set([200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]);

/** Back-off waits end at once and are remembered; other timers (watchdogs) wait for the fake clock. Chance is always 0. */
export class TestTimers implements Timers {
  readonly clock = new FakeClock(1_700_000_000_000);
  readonly waits: number[] = [];
  /** Further waits that end at once. */
  readonly alsoAtOnce = new Set<number>();

  wallMs = () => this.clock.wallMs();
  monotonicMs = () => this.clock.monotonicMs();
  random = () => 0;

  after(ms: number, fn: () => void): () => void {
    if (!BACK_OFF_MS.has(ms) && !this.alsoAtOnce.has(ms)) return this.clock.after(ms, fn);
    this.waits.push(ms);
    const immediate = setImmediate(fn);
    return () => clearImmediate(immediate);
  }
}

export interface Harness {
  readonly server: TestApiServer;
  readonly source: ApiServerSource;
  readonly sink: RecordingSink;
  readonly log: RecordingLog;
  readonly timers: TestTimers;
  status(kind: Kind): WatchStatus;
}

export interface HarnessOptions extends TestApiServerOptions {
  readonly objects?: readonly ApiObject[];
  /** Called before the source is started. */
  readonly prepare?: (server: TestApiServer, timers: TestTimers) => void;
}

/** Starts a server with the objects and a source on it. */
export async function startHarness(
  t: Test,
  { objects = [], prepare, ...options }: HarnessOptions = {},
): Promise<Harness> {
  const server = new TestApiServer(options);
  const url = await server.start();
  for (const object of objects) server.store.put(object);
  const sink = new RecordingSink();
  const log = new RecordingLog();
  const timers = new TestTimers();
  prepare?.(server, timers);
  const source = new ApiServerSource({ client: new KubeClient({ server: url }), nodeName: NODE_NAME, log, timers });
  source.start(sink);
  t.teardown(async () => {
    await source.stop();
    await server.close();
  });
  const status = (kind: Kind) => source.status().find((s) => s.kind === kind)!;
  return { server, source, sink, log, timers, status };
}

/** As `startHarness`, and waits until all kinds are complete and watched. */
export async function startComplete(t: Test, options: HarnessOptions = {}): Promise<Harness> {
  const h = await startHarness(t, options);
  await until('complete', () => h.source.status().every((s) => s.complete));
  h.sink.calls.length = 0;
  h.timers.waits.length = 0;
  return h;
}

/** Turns the event loop until the condition holds; fails after ten seconds. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`never came true: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export function service(
  name: string,
  fields: { labels?: Record<string, string>; clusterIP?: string; marker?: string } = {},
): ApiObject {
  return {
    kind: 'Service',
    metadata: { name, namespace: 'default', labels: fields.labels ?? {}, managedFields: [{ manager: 'x' }] },
    spec: { clusterIP: fields.clusterIP ?? '10.96.0.1', externalName: fields.marker ?? '' },
  };
}

export function slice(name: string, labels: Record<string, string> = {}): ApiObject {
  return {
    kind: 'EndpointSlice',
    metadata: { name, namespace: 'default', labels },
    addressType: 'IPv4',
    endpoints: [],
  };
}
