// What health check ports are asked while a Node and a Service change: the same course for kube-proxy and for the agent,
// with a real API server or the one of the tests. Syncs are made to fail by somebody else owning the proxy's tables.
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Answer, Asking, Question } from './http-asker.ts';
import { type Raw, rawNode, rawService, rawSlice } from './kube-objects.ts';
import { NODE_IPS } from './network.ts';
import { NODE_NAME } from './running-agent.ts';
import { until } from './test-node.ts';
import { scaled } from './time-scale.ts';

const ASKER = fileURLToPath(new URL('./http-asker.ts', import.meta.url));
const NODE_IP = NODE_IPS[0]!;
const CLUSTER_IP = '10.96.0.80';
const HEALTH_PORT = 30900;
const LIMIT_MS = 40_000;

/** Flags both understand: a sync that fails makes unhealthy after 2 s. */
export const COURSE_FLAGS: readonly string[] = [
  '--proxy-mode=nftables',
  '--iptables-sync-period=1s',
  '--iptables-min-sync-period=0s',
  '--healthz-bind-address=127.0.0.1:10256',
];

/** Where one proxy runs. */
export interface Course {
  /** Starts a program in the network namespace of the node. */
  readonly spawn: (argv: readonly string[]) => ChildProcess;
  readonly api: {
    put(object: Raw): void;
    remove(kind: string, namespace: string, name: string): void;
  };
  /** Of the proxy, in nftables. */
  readonly table: string;
  /** What is awaited before the Node is there: kube-proxy listens only later. */
  readonly starting: Asking['awaited'];
  /** Given time for what no answer tells, milliseconds. */
  readonly settleMs: number;
}

const PROBES: Readonly<Record<string, Question>> = {
  healthz: { url: 'http://127.0.0.1:10256/healthz' },
  livez: { url: 'http://127.0.0.1:10256/livez' },
  service: { url: `http://${NODE_IP}:${HEALTH_PORT}/` },
};

const ODD: Readonly<Record<string, Question>> = {
  ...PROBES,
  'healthz, POST': { ...PROBES.healthz!, method: 'POST' },
  'healthz, HEAD': { ...PROBES.healthz!, method: 'HEAD' },
  'healthz, connection kept': { ...PROBES.healthz!, keepAlive: true },
  'healthz with a query': { url: 'http://127.0.0.1:10256/healthz?verbose' },
  '/': { url: 'http://127.0.0.1:10256/' },
  '/healthz/': { url: 'http://127.0.0.1:10256/healthz/' },
  '/metrics': { url: 'http://127.0.0.1:10256/metrics' },
  'service, another path': { url: `http://${NODE_IP}:${HEALTH_PORT}/any/path?x=y` },
  'service, POST': { ...PROBES.service!, method: 'POST' },
  'service, HEAD': { ...PROBES.service!, method: 'HEAD' },
  'service, connection kept': { ...PROBES.service!, keepAlive: true },
  'service on loopback': { url: `http://127.0.0.1:${HEALTH_PORT}/` },
};

const ownNode = (metadata: Raw = {}, spec: Raw = {}): Raw => {
  const node = rawNode(NODE_NAME);
  return {
    ...node,
    metadata: { ...node.metadata, ...metadata },
    spec,
    status: { addresses: [{ type: 'InternalIP', address: NODE_IP }] },
  };
};
const service = rawService('web', {
  type: 'LoadBalancer',
  clusterIP: CLUSTER_IP,
  clusterIPs: [CLUSTER_IP],
  externalTrafficPolicy: 'Local',
  healthCheckNodePort: HEALTH_PORT,
});
/** Ready pods here, and one that is not, beside one on another node. */
const slice = (local: number): Raw =>
  rawSlice('web-1', 'web', [
    { addresses: ['10.128.2.1'], nodeName: 'node-1', conditions: { ready: true } },
    { addresses: ['10.128.1.9'], nodeName: NODE_NAME, conditions: { ready: false } },
    ...Array.from({ length: local }, (_, i) => ({
      addresses: [`10.128.1.${i + 1}`],
      nodeName: NODE_NAME,
      conditions: { ready: true },
    })),
  ]);
const taint = { taints: [{ key: 'ToBeDeletedByClusterAutoscaler', value: '1', effect: 'NoSchedule' }] };

export type Recorded = Record<string, Record<string, Answer>>;

/** Takes a proxy that was just started, without a Node in the cluster, through all states. @returns answers by state */
export async function operationsCourse({ spawn, api, table, starting, settleMs }: Course): Promise<Recorded> {
  const out: Recorded = {};
  const state = async (name: string, awaited: Asking['awaited'], questions = PROBES): Promise<void> => {
    const asking: Asking = { questions, awaited, limitMs: scaled(LIMIT_MS) };
    const once = async (): Promise<{ there: boolean; answers: Record<string, Answer> }> =>
      JSON.parse(await outputOf(spawn([process.execPath, ASKER, JSON.stringify(asking)])));
    await once();
    await new Promise((resolve) => setTimeout(resolve, settleMs));
    const { there, answers } = await once();
    if (!there) throw new Error(`${name}: not ${JSON.stringify(awaited)} but ${JSON.stringify(answers)}`);
    out[name] = answers;
  };
  const good = (weight: number): Asking['awaited'] => ({ healthz: '200', livez: '200', service: `200 ${weight}` });
  const notEligible = { ...good(2), healthz: '503' };

  await state('started, the Node is not there', starting);
  for (const object of [ownNode(), service, slice(0)]) api.put(object);
  await state('no endpoint here', { ...good(0), service: '503 0' });
  api.put(slice(1));
  await state('one endpoint here', good(1), ODD);
  api.put(slice(2));
  await state('two endpoints here', good(2));
  api.put(ownNode({}, taint));
  await state('the Node is tainted', notEligible);
  api.put(ownNode());
  await state('the taint is gone', good(2));
  api.put(ownNode({ finalizers: ['example.com/slow'] }));
  api.remove('Node', '', NODE_NAME);
  await state('the Node is being deleted', notEligible);
  api.put(ownNode({ finalizers: [] }));
  await state('the Node is gone', notEligible);
  api.put(ownNode());
  await state('the Node is there again', good(2));
  api.remove('Node', '', NODE_NAME);
  await state('the Node is gone at once', good(2));
  api.put(ownNode());

  const release = await ownTables(spawn, table);
  api.put(slice(1));
  await state('syncs fail', { healthz: '503', livez: '503' });
  await release();
  await state('syncs work again', good(1));
  api.remove('Service', 'shop', 'web');
  await state('the Service is gone', { healthz: '200', livez: '200', service: 'refused' });
  return out;
}

/** Makes the tables of a proxy somebody else's, with nothing in them. @returns what ends that */
async function ownTables(spawn: Course['spawn'], table: string): Promise<() => Promise<void>> {
  const child = spawn(['nft', '-i']);
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const commands = ['ip', 'ip6'].flatMap((family) => [
    `add table ${family} ${table}`,
    `delete table ${family} ${table}`,
    `add table ${family} ${table} { flags owner; }`,
  ]);
  child.stdin!.write(`${commands.join('; ')}\n`);
  await until('the tables are owned', async () =>
    (await outputOf(spawn(['nft', 'list', 'table', 'ip6', table]))).includes('flags owner'),
  );
  return () => {
    child.stdin!.end();
    return ended;
  };
}

async function outputOf(child: ChildProcess): Promise<string> {
  let text = '';
  for await (const part of child.stdout!) text += part;
  return text;
}
