// A cluster for `npm run e2e` with a kubeconfig: the real kube-apiserver, and played kubelets and controllers.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { Netexec } from '../../e2e/cluster/namespaces/netexec.ts';
import { LAN_IPS, POD_CIDRS, Topology } from '../../e2e/cluster/namespaces/topology.ts';
import { ControlPlane } from '../support/control-plane.ts';
import { within } from '../support/namespaces.ts';
import { RunningAgent } from '../support/running-agent.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { type Call, Kubelet } from './kubelet.ts';

const MAIN = fileURLToPath(new URL('../../e2e/main.ts', import.meta.url));

export interface E2eResult {
  readonly code: number;
  /** Lines of the table of results. */
  readonly table: readonly string[];
  /** Failed assertions, and what the suite says of itself. */
  readonly said: readonly string[];
}

export interface E2eOptions {
  /** E2E_KUBECONFIG is set unless here. */
  readonly env?: Readonly<Record<string, string>>;
  readonly stopAt?: RegExp;
}

export interface PlayedCluster {
  readonly topology: Topology;
  /** What any proxy on a node is started with. */
  flags(node: string): string[];
  startAgent(node: string, mode: string): RunningAgent;
  /** Requests of the administrator. */
  readonly call: Call;
  /** What went wrong with those who play. */
  readonly failures: readonly string[];
  /** Of the administrator. */
  readonly kubeconfig: string;
  /** Runs e2e/main.ts where the API server is; SIGTERM once it says `stopAt`. */
  e2e(args: readonly string[], options?: E2eOptions): Promise<E2eResult>;
}

/** Requests from the network namespace of the API server. */
function caller(server: ControlPlane, client: Netexec): Call {
  const { token } = JSON.parse(readFileSync(server.kubeconfig, 'utf8')).users[0].user;
  return async (method, path, type = 'application/json', content = undefined) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': type };
    const body = content === undefined ? {} : { body: JSON.stringify(content) };
    const answer = await client.fetch({ url: server.url + path, method, headers, ...body });
    // It went in the meantime.
    const gone = answer.status === 404 && (method === 'DELETE' || path.endsWith('/status'));
    if (answer.status >= 300 && !gone) throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`);
    return JSON.parse(answer.body);
  };
}

/** It goes with the test. Await namespacesMissing and look at controlPlaneMissing first. */
export async function startPlayedCluster(t: Test): Promise<PlayedCluster> {
  const topology = new Topology();
  t.teardown(() => topology.close());
  const server = new ControlPlane({ bindAddress: LAN_IPS[0], within: (act) => within('lan', act) });
  t.teardown(() => server.close());
  await server.start();
  const client = new Netexec('lan', { name: 'api-client', httpPort: 0, udpPort: 0, timeoutMs: 30_000 });
  t.teardown(() => client.stop());
  const call = caller(server, client);
  const folder = temporaryFolder();
  const flags = (node: string): string[] => [
    `--hostname-override=${node}`,
    `--cluster-cidr=${POD_CIDRS.join(',')}`,
    `--kubeconfig=${server.kubeconfig}`,
    '--healthz-bind-address=0.0.0.0:10256',
  ];
  const agents: RunningAgent[] = [];
  t.teardown(() => Promise.all(agents.map((agent) => agent.stop('SIGKILL'))));
  const startAgent = (node: string, mode: string): RunningAgent => {
    const net = { spawn: (_: string, ...[argv, o]: SpawnRest) => topology.spawn(node, argv, o) };
    const agent = new RunningAgent({ net, mode: mode as 'nftables', flags: flags(node), folder: `${folder}/${node}` });
    agents.push(agent);
    return agent;
  };
  const failures: string[] = [];
  const kubelet = new Kubelet(topology, call, (node, mode) => {
    const agent = startAgent(node, mode);
    return { ready: agent.ready(), stop: () => agent.stop() };
  });
  t.teardown(() => kubelet.stop());
  await kubelet.start((error) => failures.push(error.message));
  return {
    topology,
    flags,
    startAgent,
    call,
    failures,
    kubeconfig: server.kubeconfig,
    async e2e(args, { env = {}, stopAt } = {}) {
      const artifacts = process.env.E2E_ARTIFACTS ?? folder;
      const child = topology.spawn('lan', [process.execPath, MAIN, ...args, '--artifacts', artifacts], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, E2E_KUBECONFIG: server.kubeconfig, HOME: folder, ...env },
      });
      const lines: string[] = [];
      for (const stream of [child.stdout!, child.stderr!])
        createInterface({ input: stream }).on('line', (line) => {
          lines.push(line);
          if (stopAt?.test(line)) child.kill();
        });
      const code = await new Promise<number>((resolve) => child.once('close', (status) => resolve(status ?? -1)));
      return {
        code,
        table: lines.filter((line) => /^(passed|failed|skipped) /.test(line)),
        said: lines.filter((line) => /^\s*not ok|^e2e: /.test(line)),
      };
    },
  };
}

type SpawnRest = Parameters<Topology['spawn']> extends [string, ...infer Rest] ? Rest : never;
