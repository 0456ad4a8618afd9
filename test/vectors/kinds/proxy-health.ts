// a timeline of events and what the probes say.
import assert from 'node:assert/strict';
import { healthAnswer, ProxyHealth } from '../../../agent/serve/proxy-health.ts';
import { parseNode } from '../../../agent/state/node.ts';
import type { Family } from '../../../native/ip.ts';
import { FakeClock } from '../../support/fake-clock.ts';

interface Vector {
  input: {
    syncPeriodSeconds: number;
    node: unknown;
    timeline: { at: number; event: string; family?: Family; node?: unknown }[];
  };
  expect: { probes: unknown[] };
}

export async function run(vector: Vector): Promise<void> {
  const { syncPeriodSeconds, node, timeline } = vector.input;
  const clock = new FakeClock();
  const health = new ProxyHealth({ syncPeriodMs: syncPeriodSeconds * 1000, clock });
  if (node !== null) health.nodeUpdated(parseNode(node).object!);
  const probes: unknown[] = [];
  for (const { at, event, family, node: changed } of timeline) {
    await clock.advanceTo(at * 1000);
    if (event === 'loop-started') health.loopStarted(family!);
    else if (event === 'sync-requested') health.syncRequested(family!);
    else if (event === 'sync-succeeded') health.syncSucceeded(family!);
    else if (event === 'node-updated') health.nodeUpdated(parseNode(changed).object!);
    else if (event === 'probe') probes.push(probe(health, clock));
    else assert.equal(event, 'node-deleted'); // keeps the last seen state
  }
  assert.deepEqual(probes, vector.expect.probes);
}

function probe(health: ProxyHealth, clock: FakeClock): unknown {
  const healthz = healthAnswer('/healthz', health.status(), clock.wallMs());
  const livez = healthAnswer('/livez', health.status(), clock.wallMs());
  const families = (healthz.body.status ?? {}) as Record<string, { healthy: boolean }>;
  return {
    healthz: healthz.status,
    livez: livez.status,
    healthy: healthz.body.healthy,
    nodeEligible: healthz.body.nodeEligible,
    families: Object.fromEntries(Object.entries(families).map(([family, state]) => [family, state.healthy])),
  };
}
