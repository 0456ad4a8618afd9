// How long the start waits for the own Node (P-10, P-11).
import t from 'tap';
import type { Node } from '../agent/state/node.ts';
import { waitForNode } from '../agent/wait-for-node.ts';
import { RecordingLog } from './source/harness.ts';
import { FakeClock } from './support/fake-clock.ts';

const NODE: Node = { name: 'a', zone: '', podCidrs: [], addresses: [], deleting: false, taintKeys: [] };
const addresses: Node['addresses'] = [{ type: 'InternalIP', ip: '192.0.2.1' }];

function start(detectLocalMode: 'ClusterCIDR' | 'NodeCIDR') {
  const clock = new FakeClock();
  const log = new RecordingLog();
  const state: { node: Node | null; nodeName: string } = { node: null, nodeName: 'a' };
  const stop = new AbortController();
  let outcome: string | null = null;
  waitForNode(state, { config: { detectLocalMode }, log, stop: stop.signal, clock }).then(
    () => {
      outcome = 'ready';
    },
    (error: Error) => {
      outcome = error.message;
    },
  );
  return { clock, log, state, stop, outcome: () => outcome };
}

t.test('30 s for an address, then it goes on without', async (t) => {
  const { clock, log, outcome } = start('ClusterCIDR');
  await clock.advance(29_900);
  t.equal(outcome(), null);
  await clock.advance(200);
  t.equal(outcome(), 'ready');
  t.equal(log.count('no IP address'), 1);
});

t.test('no longer than it takes', async (t) => {
  const { clock, log, state, outcome } = start('ClusterCIDR');
  await clock.advance(5000);
  state.node = { ...NODE, addresses };
  await clock.advance(100);
  t.equal(outcome(), 'ready');
  t.equal(log.lines.length, 0);
});

t.test('mode NodeCIDR: another 5 minutes for pod CIDRs, then it fails', async (t) => {
  const { clock, state, outcome } = start('NodeCIDR');
  state.node = NODE;
  await clock.advance(30_000 + 299_800);
  t.equal(outcome(), null);
  await clock.advance(500);
  t.match(outcome(), /^Node a has no spec\.podCIDRs/);
  const other = start('NodeCIDR');
  other.state.node = { ...NODE, addresses };
  await other.clock.advance(60_000);
  other.state.node = { ...NODE, addresses, podCidrs: ['10.244.1.0/24'] };
  await other.clock.advance(100);
  t.equal(other.outcome(), 'ready');
});

t.test('a stop ends the wait', async (t) => {
  const { clock, stop, log, outcome } = start('NodeCIDR');
  await clock.advance(1000);
  stop.abort();
  await clock.advance(100);
  t.equal(outcome(), 'ready');
  t.equal(log.lines.length, 0);
});
