// The agent as a process of its own in the node's network namespace: started, asked, stopped or killed by a test.
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { ProxyMode } from '../../agent/config/types.ts';
import { askAgentFor } from '../../agent/ctl/agent-client.ts';
import type { Status } from '../../agent/status.ts';
import type { Network } from './network.ts';
import { temporaryFolder } from './temporary-folder.ts';
import { scaled } from './time-scale.ts';

/** KUBEPLUMB_TEST_AGENT is a bundle of it, which starts faster. */
const MAIN = process.env.KUBEPLUMB_TEST_AGENT ?? fileURLToPath(new URL('../../agent/main.ts', import.meta.url));
const HEALTHZ = `for (const path of ['healthz', 'livez']) {
  const { status } = await fetch('http://127.0.0.1:10256/' + path);
  console.log(status);
}`;

/** Name of the Node the agent runs as. */
export const NODE_NAME = 'node-0';
export const CLUSTER_CIDR = '10.128.0.0/9';

/** Limits of connection tracking belong to the machine; in namespaces of ordinary users its times are read-only too. */
export const KERNEL_AS_IT_IS = [
  '--conntrack-max-per-core=0',
  '--conntrack-tcp-timeout-established=0',
  '--conntrack-tcp-timeout-close-wait=0',
];

/** A line of the agent's log; what is no JSON becomes a `msg`. */
export interface LogLine {
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** Counts of a sync as the log tells them. */
export interface LoggedCounts {
  readonly added: number;
  readonly deleted: number;
  readonly objects: number;
  readonly transactions: number;
}

export interface AgentOptions {
  readonly net: Pick<Network, 'spawn'>;
  /** URL of an API server as reached from the node. */
  readonly server?: string;
  /** File or folder of manifests, instead of an API server. */
  readonly manifests?: string;
  /** Folder for its socket; the same for one that follows another. One is made when it is not given. */
  readonly folder?: string;
  readonly flags?: readonly string[];
  /** nftables unless given. */
  readonly mode?: ProxyMode;
  /** Environment beside that of the test. */
  readonly env?: Readonly<Record<string, string>>;
  /** Program and first arguments; the agent unless given. */
  readonly command?: readonly string[];
}

interface Waiting {
  readonly from: number;
  readonly matches: (line: LogLine) => boolean;
  readonly resolve: (line: LogLine) => void;
  readonly reject: (error: Error) => void;
}

export class RunningAgent {
  readonly lines: LogLine[] = [];
  readonly child: ChildProcess;
  readonly socket: string;
  /** How it ended: exit code or signal. */
  readonly ended: Promise<number | string>;
  readonly #net: Pick<Network, 'spawn'>;
  readonly #waiting = new Set<Waiting>();

  constructor(options: AgentOptions) {
    const { net, server, manifests, folder = temporaryFolder(), flags = [], mode = 'nftables', env } = options;
    const { command = [process.execPath, MAIN] } = options;
    this.#net = net;
    this.socket = join(folder, 'agent.sock');
    const argv = [
      ...command,
      `--proxy-mode=${mode}`,
      `--cluster-cidr=${CLUSTER_CIDR}`,
      `--hostname-override=${NODE_NAME}`,
      '--healthz-bind-address=127.0.0.1:10256',
      ...KERNEL_AS_IT_IS,
      `--socket=${this.socket}`,
      '--logging-format=json',
      '--v=4',
      ...(server === undefined ? [] : [`--master=${server}`]),
      ...(manifests === undefined ? [] : [`--manifests=${manifests}`]),
      ...flags,
    ];
    this.child = net.spawn('node', argv, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...env } });
    const read = createInterface({ input: this.child.stderr! });
    read.on('line', (line) => this.#line(line));
    this.ended = new Promise((resolve) => {
      let how: number | string = '';
      this.child.once('exit', (code, signal) => {
        how = signal ?? code ?? -1;
      });
      // All its lines have been read.
      this.child.once('close', () => {
        resolve(how);
        for (const { reject } of this.#waiting) reject(new Error(`the agent ended (${how}):\n${this.#tail()}`));
        this.#waiting.clear();
      });
    });
  }

  get pid(): number {
    return this.child.pid!;
  }

  #line(text: string): void {
    let line: LogLine = { msg: text };
    try {
      line = JSON.parse(text);
    } catch {
      // Written by Node itself.
    }
    this.lines.push(line);
    for (const waiting of this.#waiting) {
      if (!waiting.matches(line)) continue;
      this.#waiting.delete(waiting);
      waiting.resolve(line);
    }
  }

  #tail(): string {
    return this.lines
      .slice(-15)
      .map((line) => JSON.stringify(line).slice(0, 500))
      .join('\n');
  }

  /** The first line from number `from` on that matches; waits for it. @throws Error when the agent ends, or after `limitMs`. */
  async line(what: string, matches: (line: LogLine) => boolean, { from = 0, limitMs = 30_000 } = {}): Promise<LogLine> {
    const there = this.lines.slice(from).find(matches);
    if (there !== undefined) return there;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise((resolve, reject) => {
        const waiting = { from, matches, resolve, reject };
        timer = setTimeout(() => {
          this.#waiting.delete(waiting);
          reject(new Error(`the agent did not say: ${what}; but:\n${this.#tail()}`));
        }, scaled(limitMs));
        this.#waiting.add(waiting);
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Lines with this message so far. */
  all(msg: string): LogLine[] {
    return this.lines.filter((line) => line.msg === msg);
  }

  /** Waits for the first sync; answers what it sent. */
  async ready(): Promise<LoggedCounts> {
    return (await this.line('rules are in place', ({ msg }) => msg === 'rules are in place')) as never;
  }

  /**
   * Waits until the kernel has acknowledged everything up to this version of an EndpointSlice.
   * @returns when that was, on the monotonic clock in milliseconds
   */
  async acknowledged(version: number, kind = 'EndpointSlice'): Promise<number> {
    const line = await this.line(`synced up to ${kind} version ${version}`, (l) => syncedVersion(l, kind) >= version);
    return line.monotonicMs as number;
  }

  async status(): Promise<Status> {
    return JSON.parse(await askAgentFor(this.socket, '/status'));
  }

  /** HTTP status of /healthz and /livez. */
  async health(): Promise<{ healthz: number; livez: number }> {
    const child = this.#net.spawn('node', [process.execPath, '--input-type=module', '--eval', HEALTHZ], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    for await (const chunk of child.stdout!) text += chunk;
    const [healthz = 0, livez = 0] = text.trim().split('\n').map(Number);
    return { healthz, livez };
  }

  /** Sends a signal and waits for the end; answers exit code or signal. */
  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string> {
    this.child.kill(signal);
    return this.ended;
  }
}

const syncedVersion = ({ msg, resourceVersions }: LogLine, kind: string): number =>
  msg === 'synced' ? Number((resourceVersions as Record<string, string>)[kind] ?? 0) : 0;
