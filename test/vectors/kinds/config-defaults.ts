// file and flags → settings in force.
import assert from 'node:assert/strict';
import { formatDuration, parseDuration } from '../../../agent/config/duration.ts';
import { loadConfig } from '../../../agent/config/load.ts';
import { nodeName } from '../../../agent/config/node-name.ts';
import type { Config } from '../../../agent/config/types.ts';

interface Vector {
  input: { file: object | null; flags: string[] };
  expect: { effective: Record<string, unknown> };
}

const READ: Readonly<Record<string, (config: Config) => unknown>> = {
  mode: (c) => c.mode,
  bindAddress: (c) => c.bindAddress,
  healthzBindAddress: (c) => c.healthzBindAddress,
  metricsBindAddress: (c) => c.metricsBindAddress,
  syncPeriod: (c) => formatDuration(c.syncPeriodMs),
  minSyncPeriod: (c) => formatDuration(c.minSyncPeriodMs),
  masqueradeAll: (c) => c.masqueradeAll,
  masqueradeBit: (c) => c.masqueradeBit,
  detectLocalMode: (c) => c.detectLocalMode,
  clusterCIDRs: (c) => c.clusterCidrs,
  nodePortAddresses: (c) => c.nodePortAddresses,
  localhostNodePorts: (c) => c.localhostNodePorts,
  oomScoreAdj: (c) => c.oomScoreAdj,
  conntrackMaxPerCore: (c) => c.conntrack.maxPerCore,
  conntrackMin: (c) => c.conntrack.min,
  tcpEstablishedTimeout: (c) => formatDuration(c.conntrack.tcpEstablishedTimeoutMs),
  tcpCloseWaitTimeout: (c) => formatDuration(c.conntrack.tcpCloseWaitTimeoutMs),
  configSyncPeriod: (c) => formatDuration(c.configSyncPeriodMs),
  qps: (c) => c.client.qps,
  burst: (c) => c.client.burst,
  nodeName: (c) => nodeName(c.hostnameOverride, 'host'),
};
const DURATIONS = /Period$|Timeout$/;

export function run(vector: Vector): void {
  const { file, flags } = vector.input;
  const argv = file === null ? flags : ['--config=config.conf', ...flags];
  const loaded = loadConfig({ argv, readFile: () => JSON.stringify(file) });
  assert.ok(loaded.action === 'run');
  for (const [key, expected] of Object.entries(vector.expect.effective)) {
    const read = READ[key];
    assert.ok(read !== undefined, `unknown key ${key} in the expectation`);
    const byValue = DURATIONS.test(key) ? formatDuration(parseDuration(String(expected))!) : expected;
    assert.deepEqual(read(loaded.config), byValue, key);
  }
}
