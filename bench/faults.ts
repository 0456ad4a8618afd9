// A day of faults in minutes: the API server is killed and comes back, watches are cut, bookmarks stop for a while, and
// Services change all the time. Memory must stay flat, no change may be missed, and no list be asked for without need.
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AGENTCTL } from '../test/support/agentctl.ts';
import { ApiServerProcess } from '../test/support/api-server-process.ts';
import { RESOURCES, type ResourceName } from '../test/support/api-store.ts';
import { makeNode, makeServiceCidr } from '../test/support/cluster.ts';
import { endAtExit, hasEnded, ipBatch, namespaceName } from '../test/support/namespaces.ts';
import { enterNamespace } from '../test/support/own-namespace.ts';
import { CLUSTER_CIDR, NODE_NAME, RunningAgent } from '../test/support/running-agent.ts';
import { temporaryFolder } from '../test/support/temporary-folder.ts';
import { ChangingServices } from './changing-services.ts';
import { type Criterion, memoryCriterion, requestCriteria, type Sample } from './fault-verdict.ts';
import { canonicalRules, canonicalSave, differences, endpointCount, withoutSpareChains } from './final-state.ts';

export interface FaultOptions {
  readonly seconds: number;
  readonly services: number;
  readonly changesPerSecond: number;
  readonly killEveryMs: number;
  readonly cutEveryMs: number;
  readonly mode: 'nftables' | 'iptables';
  readonly seed: number;
  /** The programs run from a bundle, as they are shipped; else from their sources. */
  readonly bundled: boolean;
  /** One line of the report. */
  readonly say: (line: string) => void;
}

const SAMPLE_EVERY_MS = 5000;
/** The history of the store reaches back this long, and up to twice as long. */
const HISTORY_MS = 60_000;
/** Memory counts from here on. */
const WARM_UP_MS = 60_000;
const NODE_IP = '192.168.0.1';
const SETTLE_MS = 120_000;

/** Makes and removes a bundle beside the sources: it finds its native modules there. */
function bundle(): string {
  const folder = fileURLToPath(new URL(`dist/${process.pid}`, import.meta.url));
  const script = fileURLToPath(new URL('../scripts/build.mjs', import.meta.url));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const { status, stderr } = spawnSync(process.execPath, [script, folder], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the bundle cannot be built: ${stderr}`);
  return folder;
}

const net = {
  spawn(_host: string, [program = '', ...args]: readonly string[], options = {}) {
    const child = spawn(program, args, options);
    const { pid } = child;
    if (pid !== undefined) {
      endAtExit(pid);
      child.once('exit', () => hasEnded(pid));
    }
    return child;
  },
};

/** Runs in a network namespace of its own, which this process enters for good. @returns what was asked for, and whether it held */
export async function runFaults(options: FaultOptions): Promise<Criterion[]> {
  const noSkip = { test: (_: string, { skip }: { skip: string }) => options.say(skip) };
  if (!(await enterNamespace(noSkip))) throw new Error('there can be no network namespace');
  ipBatch([`addr add ${NODE_IP}/32 dev lo`], 'node');
  return await new FaultySoak(options).run();
}

class FaultySoak {
  readonly #o: FaultOptions;
  readonly #server = new ApiServerProcess();
  readonly #cluster: ChangingServices;
  /** Folder of the bundled programs. */
  readonly #programs: string | null;
  readonly #folder = temporaryFolder();
  readonly #rss: Sample[] = [];
  readonly #interruptions: number[] = [];
  readonly #health = new Map<string, number>();
  #agent!: RunningAgent;
  #kills = 0;
  #cuts = 0;
  #forgetful = 0;
  #outageSamples = 0;
  #ended = false;

  constructor(options: FaultOptions) {
    this.#o = options;
    this.#programs = options.bundled ? bundle() : null;
    this.#cluster = new ChangingServices(this.#server.store, options);
  }

  async run(): Promise<Criterion[]> {
    const { seconds, say } = this.#o;
    this.#server.store.load([makeNode(NODE_NAME), makeServiceCidr(), ...this.#cluster.objects()]);
    await this.#server.start();
    try {
      this.#agent = this.#start();
      await this.#agent.ready();
      say(`namespace ${namespaceName('node')}, agent ${this.#agent.pid}`);
      say('minute  RSS MiB  changes  kills  cuts  lists  watches  410  healthz');
      const from = performance.now();
      const until = from + seconds * 1000;
      await Promise.all([
        this.#churn(until),
        this.#cut(until),
        this.#kill(until),
        this.#stall(from, until),
        this.#compact(until),
        this.#sample(until),
        this.#table(from, until),
      ]);
      const to = performance.now();
      this.#ended = true;
      const warmUp = Math.min(WARM_UP_MS, (seconds * 1000) / 5);
      const kinds = Object.keys(RESOURCES);
      return [
        memoryCriterion(this.#rss, from + warmUp, to),
        ...(await this.#finalState()),
        ...requestCriteria(this.#server.asked, this.#interruptions, kinds),
        this.#healthCriterion(),
        ...(await this.#restart()),
      ];
    } finally {
      this.#ended = true;
      await this.#agent?.stop('SIGKILL');
      await this.#server.kill();
    }
  }

  #start(): RunningAgent {
    const { mode } = this.#o;
    const bundled = this.#programs && { command: [process.execPath, join(this.#programs, 'kubeplumb.js')] };
    return new RunningAgent({
      net,
      folder: this.#folder,
      server: this.#server.url,
      mode,
      ...bundled,
      flags: ['--v=2', '--metrics-bind-address=127.0.0.1:10249'],
    });
  }

  /** Calls `act` in a rhythm that does not drift. */
  async #every(ms: number, until: number, act: () => unknown): Promise<void> {
    for (let at = performance.now() + ms; at <= until && !this.#ended; at += ms) {
      await sleep(Math.max(0, at - performance.now()));
      await act();
    }
  }

  async #churn(until: number): Promise<void> {
    const began = performance.now();
    await this.#every(50, until, () => {
      const due = ((performance.now() - began) * this.#o.changesPerSecond) / 1000;
      while (this.#cluster.changes < due) this.#cluster.change();
    });
  }

  async #cut(until: number): Promise<void> {
    await this.#every(this.#o.cutEveryMs, until, () => {
      if (!this.#server.serving) return;
      this.#interruptions.push(performance.now());
      this.#server.dropWatches(this.#cuts++ % 4 === 3 ? 'end' : 'cut');
    });
  }

  async #kill(until: number): Promise<void> {
    await this.#every(this.#o.killEveryMs, until, async () => {
      this.#interruptions.push(performance.now());
      await this.#server.kill();
      this.#kills++;
      await this.#askHealth();
      this.#outageSamples++;
      await sleep(1000);
      const forgets = this.#kills % 2 === 0;
      if (forgets) this.#forgetful++;
      await this.#server.start({ forgets });
    });
  }

  /** Kinds without changes keep an old version then, and the history goes on without them. */
  async #stall(from: number, until: number): Promise<void> {
    const at = (part: number): Promise<void> => sleep(Math.max(0, from + (until - from) * part - performance.now()));
    await at(0.4);
    this.#server.stallBookmarks(true);
    this.#o.say('        no bookmarks from here');
    await at(0.5);
    this.#server.compact();
    await at(0.6);
    this.#server.stallBookmarks(false);
    this.#o.say('        bookmarks again');
  }

  async #compact(until: number): Promise<void> {
    let version = this.#server.store.version;
    await this.#every(HISTORY_MS, until, () => {
      const now = this.#server.store.version;
      this.#server.compact(version);
      version = now;
    });
  }

  async #sample(until: number): Promise<void> {
    await this.#every(Math.min(SAMPLE_EVERY_MS, this.#o.seconds * 10), until, async () => {
      const rss = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.#agent.pid}/status`, 'utf8'))?.[1];
      this.#rss.push({ atMs: performance.now(), value: Number(rss) / 1024 });
      await this.#askHealth();
    });
  }

  async #askHealth(): Promise<void> {
    for (const path of ['healthz', 'livez']) {
      const answer = await fetch(`http://127.0.0.1:10256/${path}`).catch((err: Error) => err);
      if (!(answer instanceof Error)) await answer.arrayBuffer();
      const text = `${path} ${answer instanceof Error ? answer.message : answer.status}`;
      this.#health.set(text, (this.#health.get(text) ?? 0) + 1);
    }
  }

  async #table(from: number, until: number): Promise<void> {
    await this.#every(60_000, until, () => {
      const count = (what: string): number => this.#server.asked.filter((r) => r.what === what).length;
      const healthz = [...this.#health]
        .filter(([text]) => text.startsWith('healthz'))
        .map(([t, n]) => `${n}×${t.slice(8)}`);
      const cells = [
        ((performance.now() - from) / 60_000).toFixed(0).padStart(6),
        (this.#rss.at(-1)?.value.toFixed(1) ?? '').padStart(7),
        String(this.#cluster.changes).padStart(7),
        String(this.#kills).padStart(5),
        String(this.#cuts).padStart(4),
        String(count('list')).padStart(5),
        String(count('watch')).padStart(7),
        String(count('expired')).padStart(3),
        healthz.join(' '),
      ];
      this.#o.say(cells.join('  '));
    });
  }

  #ctl(...argv: readonly string[]): string {
    const program = this.#programs === null ? AGENTCTL : join(this.#programs, 'agentctl.js');
    const result = spawnSync(process.execPath, [program, ...argv], { encoding: 'utf8', maxBuffer: 1 << 28 });
    if (result.status !== 0)
      throw new Error(`agentctl ${argv.join(' ')} ended with ${result.status}: ${result.stderr}`);
    return result.stdout;
  }

  /** What a fresh render of the objects in the store gives, with the agent's settings. */
  #fresh(): string {
    const { mode } = this.#o;
    const [config, manifests] = [join(this.#folder, 'config.json'), join(this.#folder, 'objects.json')];
    const kinds = Object.keys(RESOURCES) as ResourceName[];
    const items = kinds.flatMap((kind) => this.#server.store.all(kind).map(({ json }) => JSON.parse(json)));
    writeFileSync(manifests, JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
    const settings = { apiVersion: 'kubeproxy.config.k8s.io/v1alpha1', kind: 'KubeProxyConfiguration', mode };
    writeFileSync(config, JSON.stringify({ ...settings, clusterCIDR: CLUSTER_CIDR, hostnameOverride: NODE_NAME }));
    return this.#ctl('dump', '--manifests', manifests, '--config', config, '--node', NODE_NAME);
  }

  async #finalState(): Promise<Criterion[]> {
    const { mode } = this.#o;
    const nftables = mode === 'nftables';
    const canonical = nftables ? canonicalRules : canonicalSave;
    const fresh = canonical(this.#fresh());
    /** Equal indices and numbers, and spare chains, are expected of these two only. */
    const own = nftables ? (text: string): string => text : canonicalSave;
    const comparable = (text: string): string =>
      nftables ? withoutSpareChains(canonicalRules(text), fresh) : canonicalSave(text);
    const began = performance.now();
    let [agent, kernel] = ['', ''];
    do {
      await sleep(500);
      agent = this.#ctl('dump', '--socket', this.#agent.socket);
      kernel = this.#ctl('dump', '--from', 'kernel', '--socket', this.#agent.socket);
    } while ((own(agent) !== own(kernel) || comparable(kernel) !== fresh) && performance.now() - began < SETTLE_MS);
    const took = `after ${((performance.now() - began) / 1000).toFixed(1)} s`;
    const compare = (what: string, a: string, b: string): Criterion => ({
      what,
      holds: a === b && a !== '',
      figures: a === b ? `${a.split('\n').length} lines, ${took}` : differences(a, b).join('\n    '),
    });
    const [found, expected] = [endpointCount(mode, kernel), this.#cluster.readyEndpoints];
    const status = await this.#agent.status();
    const figures = `${status.sync?.syncs} syncs, ${status.sync?.failures} failed, ${status.repairs.count} repairs, ${status.verdict}`;
    return [
      compare('the agent says what the kernel holds', own(agent), own(kernel)),
      compare('the kernel holds what a fresh render gives', comparable(kernel), fresh),
      {
        what: 'all endpoints are there',
        holds: found === expected,
        figures: `${found} in the kernel, ${expected} of ${this.#cluster.services} Services in the store`,
      },
      { what: 'no sync failed', holds: status.sync?.failures === 0 && status.repairs.count === 0, figures },
    ];
  }

  #healthCriterion(): Criterion {
    const texts = [...this.#health];
    return {
      what: 'healthy throughout, in outages too',
      holds: this.#outageSamples > 0 && texts.every(([text]) => text.endsWith(' 200')),
      figures: `${texts.map(([text, n]) => `${text}: ${n}`).join(', ')}; ${this.#outageSamples} of each during outages`,
    };
  }

  async #restart(): Promise<Criterion[]> {
    const code = await this.#agent.stop();
    this.#agent = this.#start();
    const { added, deleted, objects } = await this.#agent.ready();
    return [
      { what: 'the agent ends well', holds: code === 0, figures: `exit code ${code}` },
      {
        what: 'a restart with nothing changed sends nothing',
        holds: added + deleted + objects === 0,
        figures: `${added} added, ${deleted} deleted, ${objects} other objects`,
      },
      {
        what: 'the faults happened',
        holds: this.#kills > 0 && this.#forgetful > 0 && this.#cuts > this.#kills,
        figures: `${this.#kills} kills, ${this.#forgetful} of them forgot the history; ${this.#cuts} cuts; ${this.#cluster.changes} changes`,
      },
    ];
  }
}
