// Measures the agent's own work in this process and network namespace: objects in memory → kernel done, and one
// endpoint change → kernel acknowledged. Prints one JSON line. Run it by bench/main.ts, in a namespace of its own.
//
//   node bench/in-process.ts MODE SERVICES ENDPOINTS CHANGES
import { createBackend } from '../agent/backend.ts';
import { loadConfig } from '../agent/config/load.ts';
import type { ProxyMode } from '../agent/config/types.ts';
import { nodeAddresses } from '../agent/plan/node-addresses.ts';
import { nodeSettings } from '../agent/plan/node-settings.ts';
import { State } from '../agent/state/state.ts';
import { Planner } from '../agent/sync/planner.ts';
import { NO_EVENTS, type SyncCounts } from '../backends/backend.ts';
import type { ApiObject } from '../test/support/api-store.ts';
import { clusterObjects, makeNode, makeServiceCidr } from '../test/support/cluster.ts';
import { median, percentile } from './statistics.ts';

const mode = process.argv[2] as ProxyMode;
const [services = 1000, endpointsPerService = 5, changes = 300, repeat = 3] = process.argv.slice(3).map(Number);
const WARM_UP = Math.ceil(changes / 10);

const loaded = loadConfig({ argv: [`--proxy-mode=${mode}`, '--cluster-cidr=10.128.0.0/9'], readFile: () => '' });
if (loaded.action !== 'run') throw new Error('no configuration');
const { config } = loaded;

const state = new State({ nodeName: 'node-0', startedMs: Date.now(), allowExternalIPs: true });
state.apply('Node', makeNode('node-0'));
state.apply('ServiceCIDR', makeServiceCidr());
const slices: ApiObject[] = [];
for (const object of clusterObjects({ services, endpointsPerService })) {
  state.apply(object.kind === 'Service' ? 'Service' : 'EndpointSlice', object);
  if (object.kind === 'EndpointSlice') slices.push(object);
}
const changed = state.takeChanges();
const families = ['IPv4', 'IPv6'] as const;
const addresses = nodeAddresses({ node: state.node, bindAddress: config.bindAddress });
const planner = new Planner({ state, families, addresses });
const settings = nodeSettings({
  conntrackBeLiberal: false,
  config,
  families,
  podCidrs: [],
  nodePortCidrs: ['192.168.0.1/32'],
  interfaces: [{ name: 'eth0', addresses: ['192.168.0.1'] }],
  serviceCidrs: (family) => state.serviceCidrs(family),
});

const newBackend = () =>
  createBackend(mode, { ...NO_EVENTS, error: (message, error) => console.error(message, error) }, config);

const coldSyncMs: number[] = [];
let cold: SyncCounts | null = null;
let warm: SyncCounts | null = null;
const warmMs: number[] = [];
let longestStallMs = 0;
for (let run = 0; run < repeat; run++) {
  const backend = newBackend();
  await backend.cleanup();
  let last = performance.now();
  const timer = setInterval(() => {
    longestStallMs = Math.max(longestStallMs, performance.now() - last - 5);
    last = performance.now();
  }, 5);
  const began = performance.now();
  cold = (await backend.start(settings, await planner.all())).counts;
  coldSyncMs.push(performance.now() - began);
  clearInterval(timer);
  await backend.close();
  const again = newBackend();
  const warmBegan = performance.now();
  warm = (await again.start(settings, await planner.all())).counts;
  warmMs.push(performance.now() - warmBegan);
  await again.close();
}

// One endpoint of one Service is replaced by another, the event as it comes from the API server.
const backend = newBackend();
await backend.start(settings, await planner.all());
const latencies: number[] = [];
let elements = 0;
let transactions = 0;
for (let i = 0; i < WARM_UP + changes; i++) {
  const slice = slices[(i * 7919) % slices.length]!;
  const endpoints = slice.endpoints as { addresses: string[] }[];
  endpoints[i % endpoints.length]!.addresses = [`10.250.${(i >> 8) & 255}.${i & 255}`];
  Object.assign(slice.metadata, { resourceVersion: String(1e9 + i) });
  const event = JSON.stringify(slice);
  const began = performance.now();
  state.apply('EndpointSlice', JSON.parse(event));
  const { services: dirty } = state.takeChanges();
  const { counts } = await backend.sync(await planner.changes(dirty));
  const ms = performance.now() - began;
  if (i < WARM_UP) continue;
  latencies.push(ms);
  elements += counts.added + counts.deleted;
  transactions += counts.transactions;
}
const drift = await backend.verify();
if (drift) throw new Error(`the kernel differs from what was applied: ${drift.description}`);
await backend.close();

process.stdout.write(
  `${JSON.stringify({
    services: changed.services.size,
    coldSyncMs: median(coldSyncMs),
    coldElements: cold?.added,
    coldTransactions: cold?.transactions,
    longestStallMs,
    warmSyncMs: median(warmMs),
    warmRestartObjects: (warm?.added ?? 0) + (warm?.deleted ?? 0) + (warm?.objects ?? 0),
    changeP50Ms: percentile(latencies, 50),
    changeP99Ms: percentile(latencies, 99),
    elementsPerChange: elements / changes,
    transactionsPerChange: transactions / changes,
  })}\n`,
);
process.exit(0);
