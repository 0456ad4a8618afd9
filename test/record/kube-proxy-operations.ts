// Records health checks, exit codes and messages of kube-proxy and the agent side by side: each in a network namespace of
// its own, both on one real kube-apiserver, the same course for both. Writes test/fixtures/operations/{health,endings}.json.
//
//   KUBEPLUMB_PEERS=/folder/of/programs node test/record/kube-proxy-operations.ts [health] [endings]
//
// Needs root, kubectl, nft, and in the folder kube-proxy, kube-apiserver and etcd.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ControlPlane } from '../support/control-plane.ts';
import type { Raw } from '../support/kube-objects.ts';
import {
  createNamespaces,
  endAtExit,
  hasEnded,
  ipBatch,
  namespaceName,
  namespacesMissing,
  removeNamespaces,
  within,
} from '../support/namespaces.ts';
import { NODE_IPS } from '../support/network.ts';
import { COMMANDS, endingOf } from '../support/operations-commands.ts';
import { COURSE_FLAGS, operationsCourse } from '../support/operations-course.ts';
import { findPeers } from '../support/peers.ts';
import { CLUSTER_CIDR, KERNEL_AS_IT_IS, NODE_NAME } from '../support/running-agent.ts';

const API_IP = '192.0.2.1';
const FOLDER = new URL('../fixtures/operations/', import.meta.url);
const MAIN = fileURLToPath(new URL('../../agent/main.ts', import.meta.url));
/** Accepted configurations are ended after it. */
const ENDING_MS = 8000;
const folder = mkdtempSync(join(tmpdir(), 'kubeplumb-'));

function write(name: string, recorded: object): void {
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(new URL(`${name}.json`, FOLDER), `${JSON.stringify(recorded, null, 2)}\n`);
}

interface Side {
  readonly role: string;
  readonly program: readonly string[];
  readonly flags: readonly string[];
  readonly table: string;
  readonly starting: Readonly<Record<string, string>>;
}

const peers = findPeers(['kube-proxy', 'kube-apiserver', 'etcd']);
if (typeof peers === 'string') throw new Error(peers);
const SIDES: Readonly<Record<string, Side>> = {
  'kube-proxy': {
    role: 'proxy',
    program: [peers['kube-proxy']],
    flags: [],
    table: 'kube-proxy',
    starting: { healthz: 'refused', livez: 'refused', service: 'refused' },
  },
  kubeplumb: {
    role: 'agent',
    program: [process.execPath, MAIN],
    flags: [`--socket=${join(folder, 'agent.sock')}`],
    table: 'kubeplumb',
    starting: { healthz: '503', livez: '200', service: 'refused' },
  },
};

/** Two nodes of one name and address, each with a line to the API server. */
function connect(): void {
  createNamespaces(['api', 'proxy', 'agent']);
  const lines = Object.values(SIDES).map(
    ({ role }) =>
      `link add ${role} netns ${namespaceName('api')} type veth peer name eth0 netns ${namespaceName(role)}`,
  );
  ipBatch(lines);
  const server = [`addr add ${API_IP}/32 dev lo`, 'link set lo up'];
  for (const [i, { role }] of Object.values(SIDES).entries()) {
    const [here, there] = [`198.51.100.${4 * i + 1}`, `198.51.100.${4 * i + 2}`];
    server.push(`addr add ${here}/30 dev ${role}`, `link set ${role} up`);
    ipBatch(
      [
        'link set lo up',
        'link add node0 type veth peer name peer',
        'link set node0 up',
        'link set peer up',
        `addr add ${NODE_IPS[0]}/32 dev node0`,
        `addr add ${there}/30 dev eth0`,
        'link set eth0 up',
        `route add default via ${here}`,
      ],
      role,
    );
  }
  ipBatch(server, 'api');
}

function start(role: string, argv: readonly string[], out: 'pipe' | 'inherit' = 'pipe'): ChildProcess {
  const [program = '', ...args] = argv;
  const child = within(role, () => spawn(program, args, { stdio: ['pipe', out, 'inherit'] }));
  const { pid } = child;
  if (pid !== undefined) {
    endAtExit(pid);
    child.once('exit', () => hasEnded(pid));
  }
  return child;
}

async function end(child: ChildProcess): Promise<number | string> {
  const ended = new Promise<number | string>((resolve) =>
    child.once('exit', (code, signal) => resolve(code ?? signal ?? '')),
  );
  child.kill('SIGTERM');
  return ended;
}

async function recordHealth(): Promise<void> {
  connect();
  const plane = new ControlPlane({ bindAddress: API_IP, within: (act) => within('api', act) });
  try {
    await plane.start();
    plane.kubectl(['create', 'namespace', 'shop']);
    const api = {
      put: (object: Raw) => void plane.kubectl(['apply', '-f', '-'], JSON.stringify(object)),
      remove: (kind: string, namespace: string, name: string) =>
        void plane.kubectl(['delete', kind, name, '--wait=false', ...(namespace === '' ? [] : ['-n', namespace])]),
    };
    const recorded: Record<string, unknown> = {};
    for (const [name, { role, program, flags, table, starting }] of Object.entries(SIDES)) {
      console.log(`health of ${name}`);
      const child = start(role, [
        ...program,
        ...COURSE_FLAGS,
        ...KERNEL_AS_IT_IS,
        `--kubeconfig=${plane.kubeconfig}`,
        `--hostname-override=${NODE_NAME}`,
        `--cluster-cidr=${CLUSTER_CIDR}`,
        ...flags,
      ]);
      child.stdout!.resume();
      const states = await operationsCourse({
        spawn: (argv) => start(role, argv),
        api,
        table,
        starting,
        settleMs: 2000,
      });
      recorded[name] = { states, endedBySIGTERM: await end(child) };
      for (const [kind, where] of [
        ['node', NODE_NAME],
        ['endpointslice', 'web-1'],
      ] as const) {
        plane.kubectl(['delete', kind, where, ...(kind === 'node' ? [] : ['-n', 'shop'])]);
      }
    }
    write('health', recorded);
  } finally {
    await plane.close();
    removeNamespaces(['api', 'proxy', 'agent']);
  }
}

async function recordEndings(): Promise<void> {
  createNamespaces(['bare']);
  ipBatch(['link set lo up'], 'bare');
  const recorded: Record<string, Record<string, unknown>> = {};
  for (const name of Object.keys(COMMANDS)) {
    console.log(name);
    const both: Record<string, unknown> = {};
    for (const [side, { program, flags }] of Object.entries(SIDES)) {
      const argv = side === 'kubeplumb' ? [...program, ...flags] : program;
      both[side] = await within('bare', () => endingOf(argv, name, ENDING_MS));
    }
    recorded[name] = both as never;
  }
  write('endings', recorded);
  removeNamespaces(['bare']);
}

const missing = await namespacesMissing();
if (missing !== null) throw new Error(missing);
const wanted = process.argv.slice(2);
try {
  if (wanted.length === 0 || wanted.includes('endings')) await recordEndings();
  if (wanted.length === 0 || wanted.includes('health')) await recordHealth();
} finally {
  rmSync(folder, { recursive: true });
}
