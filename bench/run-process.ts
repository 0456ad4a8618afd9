// Measures a whole proxy process (this agent, or another one by --command) from outside, on objects from an API server:
// process start → a Service answers, one endpoint change → new connections land, memory, connect rate; and what its own
// metrics tell about its syncs.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { ApiObject } from '../test/support/api-store.ts';
import { monotonicMs } from '../test/support/host-calls.ts';
import { createNetwork, type Network } from '../test/support/network.ts';
import { scaled } from '../test/support/time-scale.ts';
import { connectRate } from './connect-rate.ts';
import { median, percentile } from './statistics.ts';

export interface ProcessOptions {
  readonly mode: string;
  readonly services: number;
  readonly endpointsPerService: number;
  /** Words of the command; {config}, {kubeconfig} and {node} are filled in. */
  readonly command: readonly string[];
  readonly changes: number;
  /** Longest wait for the first sync. */
  readonly startLimitMs: number;
  readonly say: (text: string) => void;
}

export interface ProcessResult {
  /** Process start → a Service answers. */
  readonly coldStartMs: number;
  /** Process start → the first sync has ended: backends without transactions answer for some Services long before. */
  readonly syncedMs: number;
  /** Change of an EndpointSlice in the API server → a connection lands on the new endpoint. */
  readonly landedP50Ms: number;
  readonly landedP99Ms: number;
  readonly rssMiB: number;
  /** Objects sent by a restart with nothing changed; null when the program does not tell. */
  readonly warmRestartObjects: number | null;
  /** The first sync, and the mean of those after it, as the program's own metrics tell. */
  readonly firstSyncMs: number;
  readonly laterSyncMs: number;
  readonly connectRatio: number;
  readonly connectsFailed: number;
}

const NODE = 'node-0';
const VIP = '10.96.0.7';
const PODS = ['pod-a', 'pod-b', 'pod-c'].map((name, i) => ({ name, ip: [`10.128.0.${i + 2}`], local: true }));
const SERVER = fileURLToPath(new URL('../test/support/api-server-main.ts', import.meta.url));

const METRICS_PORT = 10249;
/** bash starts quickly, also where processors are emulated. */
const READ_METRICS = `exec 3<>/dev/tcp/127.0.0.1/${METRICS_PORT} && printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3`;

const service: ApiObject = {
  kind: 'Service',
  metadata: { name: 'canary', namespace: 'bench', creationTimestamp: '2026-11-02T08:15:30Z' },
  spec: {
    type: 'ClusterIP',
    clusterIP: VIP,
    clusterIPs: [VIP],
    ipFamilies: ['IPv4'],
    sessionAffinity: 'None',
    internalTrafficPolicy: 'Cluster',
    ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 8080 }],
  },
};

const sliceTo = (pod: (typeof PODS)[number]): ApiObject => ({
  kind: 'EndpointSlice',
  metadata: { name: 'canary-1', namespace: 'bench', labels: { 'kubernetes.io/service-name': 'canary' } },
  addressType: 'IPv4',
  ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
  endpoints: [
    { addresses: [pod.ip[0]!], nodeName: NODE, conditions: { ready: true, serving: true, terminating: false } },
  ],
});

export async function measureProcess(options: ProcessOptions): Promise<ProcessResult> {
  const dir = mkdtempSync(join(tmpdir(), 'kubeplumb-bench-'));
  const net = await createNetwork({ pods: PODS });
  try {
    for (const pod of PODS)
      await net.host(pod.name).call('listen', { proto: 'TCP', ip: pod.ip[0]!, port: 8080, closes: true });
    return await new ProcessBench(net, dir, options).measure();
  } finally {
    await net.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

class ProcessBench {
  readonly #net: Network;
  readonly #dir: string;
  readonly #options: ProcessOptions;
  readonly #control: string;
  #log = '';

  constructor(net: Network, dir: string, options: ProcessOptions) {
    this.#net = net;
    this.#dir = dir;
    this.#options = options;
    this.#control = join(dir, 'control.sock');
  }

  async measure(): Promise<ProcessResult> {
    const { say, changes } = this.#options;
    const url = await this.#startServer();
    this.#writeConfig(url);
    await this.#put(service);
    await this.#put(sliceTo(PODS[1]!));
    say('first start');
    const began = monotonicMs();
    let proxy = this.#startProxy();
    await this.#until('pod-b', this.#options.startLimitMs, proxy);
    const coldStartMs = monotonicMs() - began;
    const first = await this.#firstSync(proxy);
    const syncedMs = monotonicMs() - began;
    say('endpoint changes');
    const landed: number[] = [];
    for (let i = 0; i < changes; i++) landed.push(await this.#change(PODS[1 + ((i + 1) % 2)]!, proxy));
    const rssMiB = residentMiB(proxy.pid!);
    const all = this.#syncs()!;

    say('connect rate');
    await this.#change(PODS[1]!, proxy);
    const rate = await connectRate(this.#net.host('pod-a'), {
      direct: PODS[1]!.ip[0]!,
      directPort: 8080,
      service: VIP,
      servicePort: 80,
    });

    say('restart with nothing changed');
    await end(proxy);
    this.#log = '';
    proxy = this.#startProxy();
    const warmRestartObjects = await this.#objectsOfStart();
    await end(proxy);
    return {
      coldStartMs,
      syncedMs,
      landedP50Ms: median(landed),
      landedP99Ms: percentile(landed, 99),
      rssMiB,
      warmRestartObjects,
      firstSyncMs: (first.seconds / first.count) * 1000,
      laterSyncMs: ((all.seconds - first.seconds) / (all.count - first.count)) * 1000,
      connectRatio: rate.ratio,
      connectsFailed: rate.failed,
    };
  }

  async #startServer(): Promise<string> {
    const { services, endpointsPerService, say } = this.#options;
    say('API server');
    const argv = [
      '--services',
      String(services),
      '--endpoints',
      String(endpointsPerService),
      '--control',
      this.#control,
    ];
    const child = this.#net.spawn('node', [process.execPath, SERVER, ...argv], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(createInterface({ input: child.stdout! }), 'line')) as [string];
    return (JSON.parse(line) as { url: string }).url;
  }

  #writeConfig(url: string): void {
    const kubeconfig = join(this.#dir, 'kubeconfig');
    const named = (name: string, key: string, value: object) => [{ name, [key]: value }];
    writeFileSync(
      kubeconfig,
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Config',
        'current-context': 'bench',
        clusters: named('bench', 'cluster', { server: url }),
        users: named('bench', 'user', {}),
        contexts: named('bench', 'context', { cluster: 'bench', user: 'bench' }),
      }),
    );
    const { mode } = this.#options;
    writeFileSync(
      join(this.#dir, 'config'),
      JSON.stringify({
        apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
        kind: 'KubeProxyConfiguration',
        mode,
        hostnameOverride: NODE,
        clientConnection: { kubeconfig, contentType: 'application/json', qps: 100, burst: 200 },
        clusterCIDR: '10.128.0.0/9',
        nodePortAddresses: ['172.18.0.2/32'],
        conntrack: { maxPerCore: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
        [mode]: { syncPeriod: '30s', minSyncPeriod: '10ms' },
      }),
    );
  }

  #startProxy(): ChildProcess {
    const values: Record<string, string> = {
      config: join(this.#dir, 'config'),
      kubeconfig: join(this.#dir, 'kubeconfig'),
      node: NODE,
    };
    const argv = this.#options.command.map((word) =>
      word.replace(/\{(\w+)\}/g, (all, key: string) => values[key] ?? all),
    );
    const child = this.#net.spawn('node', argv, { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr!.on('data', (chunk: Buffer) => {
      this.#log = (this.#log + chunk.toString()).slice(-100_000);
    });
    return child;
  }

  /** Dials the canary until this pod answers. */
  async #until(pod: string, limitMs: number, proxy: ChildProcess): Promise<void> {
    const client = this.#net.host('pod-a');
    for (const end = monotonicMs() + limitMs; ; ) {
      const answer = await client.dial({ proto: 'TCP', ip: VIP, port: 80, timeoutMs: 300 });
      if (answer.outcome === 'answered' && answer.host === pod) return;
      if (proxy.exitCode !== null) throw new Error(`the proxy ended with ${proxy.exitCode}:\n${this.#log}`);
      if (monotonicMs() > end) throw new Error(`no connection landed within ${limitMs} ms:\n${this.#log.slice(-3000)}`);
      if (answer.outcome !== 'answered') await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async #change(pod: (typeof PODS)[number], proxy: ChildProcess): Promise<number> {
    const began = monotonicMs();
    await this.#put(sliceTo(pod));
    await this.#until(pod.name, scaled(120_000), proxy);
    const took = monotonicMs() - began;
    // Changes that come one after the other would wait for each other.
    await new Promise((resolve) => setTimeout(resolve, this.#options.mode === 'nftables' ? 50 : 1500));
    return took;
  }

  #put(object: ApiObject): Promise<void> {
    return new Promise((resolve, reject) => {
      const req = request({ socketPath: this.#control, method: 'PUT', path: '/' }, (res) => {
        res
          .resume()
          .on('end', () =>
            res.statusCode === 200 ? resolve() : reject(new Error(`control server: ${res.statusCode}`)),
          );
      });
      req.on('error', reject).end(JSON.stringify(object));
    });
  }

  /** What the restarted agent says it sent; null for programs that say nothing of the kind. */
  async #objectsOfStart(): Promise<number | null> {
    for (const end = monotonicMs() + scaled(10_000); monotonicMs() < end; ) {
      const line = /rules are in place.*/.exec(this.#log)?.[0];
      if (line) {
        const count = (name: string): number => Number(new RegExp(`${name}=(\\d+)`).exec(line)?.[1] ?? Number.NaN);
        return count('added') + count('deleted') + count('objects');
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return null;
  }

  /** Waits until the metrics tell of a sync. */
  async #firstSync(proxy: ChildProcess): Promise<SyncDurations> {
    for (const end = monotonicMs() + this.#options.startLimitMs; ; ) {
      const syncs = this.#syncs();
      if (syncs !== null) return syncs;
      if (proxy.exitCode !== null) throw new Error(`the proxy ended with ${proxy.exitCode}:\n${this.#log}`);
      if (monotonicMs() > end) throw new Error('the metrics tell of no sync');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Number and duration of all IPv4 syncs; null before the first. */
  #syncs(): SyncDurations | null {
    const text = this.#net.tryExec('node', ['bash', '-c', READ_METRICS]).stdout;
    const value = (what: string): number => {
      const name = `kubeproxy_sync_proxy_rules_duration_seconds_${what}`;
      return Number(new RegExp(`^${name}\\{ip_family="IPv4"\\} (\\S+)`, 'm').exec(text)?.[1] ?? 0);
    };
    return value('count') === 0 ? null : { count: value('count'), seconds: value('sum') };
  }
}

interface SyncDurations {
  readonly count: number;
  readonly seconds: number;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await gone;
}

/** Resident memory of a process, of what `ip netns exec` or a launcher started for it. */
function residentMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const own = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
  const children = `/proc/${pid}/task/${pid}/children`;
  const pids = existsSync(children) ? readFileSync(children, 'utf8').split(' ').filter(Boolean) : [];
  return Math.max(own, ...pids.map((child) => residentMiB(Number(child))));
}
