// Endpoints of a Service are replaced while a client keeps connecting and many other Services change: no connection may
// fail, and none that begins after the removal of an endpoint was acknowledged may reach it.
import { percentile } from '../../bench/statistics.ts';
import type { ApiObject } from './api-store.ts';
import { clusterObjects, mulberry32 } from './cluster.ts';
import { type LoadResult, monotonicMs } from './host-calls.ts';
import { rawService, rawSlice } from './kube-objects.ts';
import type { AgentOptions, RunningAgent } from './running-agent.ts';
import { CLIENT_IP, PODS, podIp, startTestNode, type TestNode } from './test-node.ts';
import { scaled, scaledRate } from './time-scale.ts';

export interface ChurnOptions {
  readonly seconds: number;
  /** How often endpoints of the Service under test are replaced. */
  readonly replacements: number;
  readonly otherServices: number;
  /** Changes of other Services each second. */
  readonly changesPerSecond: number;
  readonly connectsPerSecond: number;
  readonly seed: number;
  /** Of the agent: program and first arguments, mode, environment, more flags. */
  readonly command?: readonly string[];
  readonly mode?: AgentOptions['mode'];
  readonly env?: AgentOptions['env'];
  readonly flags?: AgentOptions['flags'];
}

export interface ChurnReport {
  readonly seconds: number;
  readonly attempts: number;
  readonly perSecond: number;
  /** Attempts that were not answered, by outcome. */
  readonly failed: Readonly<Record<string, number>>;
  /** Connections that began after the removal of the endpoint they reached was acknowledged. */
  readonly late: readonly string[];
  readonly endpointsReached: number;
  readonly slowestMs: number;
  readonly replacements: number;
  readonly otherChanges: number;
  readonly otherServicesChanged: number;
  /** From the change in the API server to the acknowledgement of the kernel. */
  readonly acknowledgedP50Ms: number;
  readonly acknowledgedP99Ms: number;
  readonly repairs: number;
  readonly syncFailures: number;
  readonly rssMiB: number;
}

const SERVICE_IP = '10.96.0.80';
const PORTS = [8001, 8002, 8003, 8004, 8005, 8006];
/** A pod goes on serving this long after nobody is sent to it any more. */
const DRAIN_MS = 300;

/** As clients see it. */
const endpointName = (pod: number, port: number): string => `${PODS[pod - 1]}:${port}`;

/** When an endpoint may be reached: from its appearance to the acknowledgement of its removal. */
class Periods {
  readonly #periods = new Map<string, { from: number; to: number }[]>();

  appears(endpoint: string): void {
    let list = this.#periods.get(endpoint);
    if (!list) this.#periods.set(endpoint, (list = []));
    list.push({ from: monotonicMs(), to: Number.POSITIVE_INFINITY });
  }

  removed(endpoint: string, at: number): void {
    this.#periods.get(endpoint)!.at(-1)!.to = at;
  }

  allow(endpoint: string, at: number): boolean {
    return (this.#periods.get(endpoint) ?? []).some(({ from, to }) => from <= at && at <= to);
  }

  get size(): number {
    return this.#periods.size;
  }
}

/** A slice for each port, with the pods that serve it. */
class ServiceUnderTest {
  readonly periods = new Periods();
  readonly acknowledgedMs: number[] = [];
  readonly #node: TestNode;
  readonly #agent: RunningAgent;
  readonly #random: () => number;
  readonly #pods: number[][] = PORTS.map(() => []);
  readonly #closing = new Map<string, Promise<unknown>>();

  constructor(node: TestNode, agent: RunningAgent, random: () => number) {
    this.#node = node;
    this.#agent = agent;
    this.#random = random;
  }

  async create(): Promise<void> {
    this.#node.server.store.put(rawService('web', { clusterIP: SERVICE_IP, clusterIPs: [SERVICE_IP] }));
    for (const slice of PORTS.keys()) await this.#set(slice, [1 + (slice % PODS.length)]);
  }

  /** One endpoint of a slice goes, another one comes; now and then the number of endpoints changes as well. */
  async replace(): Promise<void> {
    const slice = Math.floor(this.#random() * PORTS.length);
    const old = this.#pods[slice]!;
    const gone = this.#pick(old);
    const others = PODS.map((_, i) => i + 1).filter((pod) => !old.includes(pod));
    const free = others.filter((pod) => !this.#closing.has(endpointName(pod, PORTS[slice]!)));
    const added = this.#pick(free.length > 0 ? free : others);
    const next = [...old.filter((pod) => pod !== gone), added];
    if (this.#random() < 0.3) {
      if (next.length > 1) next.shift();
      else next.push(gone === 1 ? 2 : gone - 1);
    }
    await this.#set(slice, [...new Set(next)]);
  }

  #pick(from: readonly number[]): number {
    return from[Math.floor(this.#random() * from.length)]!;
  }

  async #set(slice: number, next: readonly number[]): Promise<void> {
    const port = PORTS[slice]!;
    const old = this.#pods[slice]!;
    const name = (pod: number): string => endpointName(pod, port);
    for (const pod of next) {
      if (old.includes(pod)) continue;
      await this.#closing.get(name(pod));
      const host = this.#node.net.host(PODS[pod - 1]!);
      await host.call('listen', { proto: 'TCP', ip: podIp(pod), port, closes: true });
    }
    for (const pod of next) if (!old.includes(pod)) this.periods.appears(name(pod));
    const began = monotonicMs();
    const object = rawSlice(`web-${port}`, 'web', next.map(podIp), {
      ports: [{ name: 'http', protocol: 'TCP', port }],
    });
    const { version } = this.#node.server.store.put(object);
    this.#pods[slice] = [...next];
    const at = await this.#agent.acknowledged(version);
    this.acknowledgedMs.push(at - began);
    for (const pod of old) {
      if (next.includes(pod)) continue;
      this.periods.removed(name(pod), at);
      this.#closing.set(
        name(pod),
        this.#close(pod, port).finally(() => this.#closing.delete(name(pod))),
      );
    }
  }

  /** After this a connection that is still sent there is refused. */
  async #close(pod: number, port: number): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, scaled(DRAIN_MS)));
    await this.#node.net.host(PODS[pod - 1]!).call('unlisten', { proto: 'TCP', ip: podIp(pod), port });
  }

  async drained(): Promise<void> {
    await Promise.all(this.#closing.values());
  }
}

/** Changes other Services at a steady rate: mostly an endpoint, sometimes a whole Service goes and comes back. */
class OthersChurn {
  readonly changed = new Set<string>();
  changes = 0;
  readonly #node: TestNode;
  readonly #random: () => number;
  readonly #services: ApiObject[] = [];
  readonly #slices: ApiObject[] = [];
  readonly #away = new Set<number>();
  readonly #perSecond: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(node: TestNode, options: ChurnOptions, random: () => number) {
    this.#node = node;
    this.#random = random;
    this.#perSecond = scaledRate(options.changesPerSecond);
    for (const object of clusterObjects({
      services: options.otherServices,
      endpointsPerService: 5,
      seed: options.seed,
    }))
      (object.kind === 'Service' ? this.#services : this.#slices).push(object);
    node.server.store.load([...this.#services, ...this.#slices]);
  }

  start(): void {
    const began = monotonicMs();
    this.#timer = setInterval(() => {
      const due = ((monotonicMs() - began) * this.#perSecond) / 1000;
      while (this.changes < due) this.#change();
      if (this.changes % 1000 < 10) this.#node.server.store.compact();
    }, 10);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #change(): void {
    const { store } = this.#node.server;
    // In turn through all of them, so that each one changes if time allows.
    const i = this.changes++ % this.#services.length;
    const service = this.#services[i]!;
    const slice = this.#slices[i]!;
    const namespace = service.metadata.namespace!;
    this.changed.add(service.metadata.name);
    if (this.#away.delete(i)) {
      store.put(service);
      store.put(slice);
    } else if (this.#random() < 0.05) {
      this.#away.add(i);
      store.delete('EndpointSlice', namespace, slice.metadata.name);
      store.delete('Service', namespace, service.metadata.name);
    } else {
      const endpoints = slice.endpoints as { addresses: string[] }[];
      const n = Math.floor(this.#random() * 2 ** 20);
      endpoints[n % endpoints.length]!.addresses = [`10.25${n >> 19}.${(n >> 8) & 255}.${n & 255}`];
      store.put(slice);
    }
  }
}

/** Runs everything in namespaces of its own. On a slow machine as much happens, in more time. */
export async function runChurn(options: ChurnOptions): Promise<ChurnReport> {
  const cleanups: (() => unknown)[] = [];
  try {
    const random = mulberry32(options.seed);
    const node = await startTestNode({ teardown: (fn) => cleanups.push(fn as () => unknown) }, { ports: [] });
    const others = new OthersChurn(node, options, random);
    const { command, mode, env, flags } = options;
    const agent = node.agent({
      ...(command && { command }),
      ...(mode && { mode }),
      ...(env && { env }),
      ...(flags && { flags }),
    });
    await agent.ready();
    const service = new ServiceUnderTest(node, agent, random);
    await service.create();
    const targets = [{ proto: 'TCP', ip: SERVICE_IP, port: 80, source: CLIENT_IP }] as const;
    const { load } = await node.client.call('startLoad', {
      targets,
      width: 64,
      perSecond: scaledRate(options.connectsPerSecond),
      keepDetails: true,
    });
    cleanups.push(() => others.stop());
    others.start();
    const began = monotonicMs();
    for (let i = 0; i < options.replacements; i++) {
      await service.replace();
      const wait = began + ((i + 1) * scaled(options.seconds) * 1000) / options.replacements - monotonicMs();
      if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    }
    others.stop();
    await service.drained();
    const result = await node.client.call('stopLoad', { load });
    const status = await agent.status();
    return {
      ...judge(result, service.periods),
      replacements: options.replacements,
      otherChanges: others.changes,
      otherServicesChanged: others.changed.size,
      acknowledgedP50Ms: percentile(service.acknowledgedMs, 50),
      acknowledgedP99Ms: percentile(service.acknowledgedMs, 99),
      repairs: status.repairs.count,
      syncFailures: status.sync?.failures ?? -1,
      rssMiB: Math.round(status.rssBytes / 2 ** 20),
    };
  } finally {
    for (const cleanup of cleanups.reverse()) await cleanup();
  }
}

function judge(result: LoadResult, periods: Periods) {
  const failed: Record<string, number> = {};
  const late: string[] = [];
  const reached = new Set<string>();
  const details = result.details!;
  for (const [row, at] of details.startedAt.entries()) {
    const text = details.texts[details.result[row]!]!;
    if (!text.includes(':')) failed[text] = (failed[text] ?? 0) + 1;
    else if (!periods.allow(text, at)) late.push(`${text} at ${at.toFixed(1)}`);
    reached.add(text);
  }
  const seconds = (result.endedAt - result.startedAt) / 1000;
  const endpointsReached = [...reached].filter((text) => text.includes(':')).length;
  const { attempts, slowestMs } = result;
  return { seconds, attempts, perSecond: attempts / seconds, failed, late, endpointsReached, slowestMs };
}
