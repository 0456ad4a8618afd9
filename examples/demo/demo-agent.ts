// The real agent as a process in the node's namespace, and agentctl beside it.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { askAgentFor, NoAgent } from '../../agent/ctl/agent-client.ts';
import type { ServiceExplanation } from '../../agent/explain/explanation.ts';
import type { Status } from '../../agent/status.ts';
import type { Network } from '../../test/support/network.ts';
import { NODE_NAME } from './shop.ts';

const program = (name: string): string => fileURLToPath(new URL(`../../agent/${name}.ts`, import.meta.url));
const CONFIG = fileURLToPath(new URL('../config.yaml', import.meta.url));

/** Longer than a change takes to be noticed on file systems that report none. */
const DEADLINE_MS = 40_000;
const POLL_MS = 5;
const STOP_MS = 5_000;
const LOG_LINES = 15;

export class DemoAgent {
  readonly #net: Network;
  readonly #socket: string;
  readonly #child: ChildProcess;
  readonly #log: string[] = [];
  #ended: string | null = null;

  /** `folder` takes its socket. It watches `manifests`. */
  constructor(net: Network, options: { readonly manifests: string; readonly folder: string }) {
    this.#net = net;
    this.#socket = join(options.folder, 'agent.sock');
    const own = ['--manifests', options.manifests, '--socket', this.#socket];
    const args = [program('main'), '--config', CONFIG, '--hostname-override', NODE_NAME, ...own];
    // It must not outlive the demo, even if that is killed.
    const argv = ['setpriv', '--pdeathsig', 'KILL', '--', process.execPath, ...args];
    this.#child = net.spawn('node', argv, { stdio: ['ignore', 'ignore', 'pipe'] });
    createInterface({ input: this.#child.stderr! }).on('line', (line) => this.#log.push(line));
    this.#child.once('error', (error) => {
      this.#ended = error.message;
    });
    this.#child.once('exit', (code, signal) => {
      this.#ended = signal ?? `exit code ${code}`;
    });
  }

  /** The last lines of its log. */
  get log(): readonly string[] {
    return this.#log.slice(-LOG_LINES);
  }

  /** Asks for the status until `wanted` says yes. @throws Error when the agent ends, or that takes too long */
  async until(what: string, wanted: (status: Status) => boolean): Promise<Status> {
    const deadline = performance.now() + DEADLINE_MS;
    for (;;) {
      if (this.#ended !== null) throw new Error(`the agent ended: ${this.#ended}`);
      const status = await this.status();
      if (status !== null && wanted(status)) return status;
      if (performance.now() > deadline) throw new Error(`the agent has not ${what} within ${DEADLINE_MS / 1000} s`);
      await delay(POLL_MS);
    }
  }

  /** null until it can be asked. */
  async status(): Promise<Status | null> {
    try {
      return JSON.parse(await askAgentFor(this.#socket, '/status')) as Status;
    } catch (error) {
      if (error instanceof NoAgent) return null;
      throw error;
    }
  }

  /** Services that it handles, as `namespace/name`. */
  async services(): Promise<string[]> {
    const explained = JSON.parse(await askAgentFor(this.#socket, '/explain')) as ServiceExplanation[];
    return explained.map(({ service }) => service);
  }

  /** Runs agentctl on the node and returns what it prints. @throws Error with its error output when it fails */
  ctl(...args: readonly string[]): string {
    return this.#net.exec('node', [process.execPath, program('agentctl'), ...args, '--socket', this.#socket]);
  }

  /** Ends it as an operator would. @throws Error when it does not end well */
  async stop(): Promise<void> {
    if (this.#ended === null) {
      const exited = once(this.#child, 'exit');
      this.#child.kill('SIGTERM');
      await Promise.race([exited, delay(STOP_MS, undefined, { ref: false })]);
    }
    if (this.#ended !== 'exit code 0')
      throw new Error(`the agent did not stop well: ${this.#ended ?? 'still running'}`);
  }
}
