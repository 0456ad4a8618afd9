// Somebody else removes rules while the agent runs: they are repaired, told and counted.
import t, { type Test } from 'tap';
import type { ApiObject } from '../support/api-store.ts';
import { clusterObjects } from '../support/cluster.ts';
import { type LoadResult, monotonicMs } from '../support/host-calls.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import type { RunningAgent } from '../support/running-agent.ts';
import { podIp, startTestNode, type TestNode, until } from '../support/test-node.ts';

const missing = await namespacesMissing();
const skip = missing ?? false;
const IP = '10.96.0.80';
const REPAIRED = 'rules were changed by somebody else and have been repaired';

const objects: ApiObject[] = [
  rawService('web', { clusterIP: IP, clusterIPs: [IP] }),
  rawSlice('web-1', 'web', [podIp(1), podIp(2)]),
  ...clusterObjects({ services: 500, endpointsPerService: 5 }),
];

async function start(t: Test): Promise<{ node: TestNode; agent: RunningAgent }> {
  const node = await startTestNode(t, { objects });
  const agent = node.agent();
  await agent.ready();
  return { node, agent };
}

/** Connections all the time; an attempt that cannot succeed ends soon. */
async function underLoad(node: TestNode, act: () => Promise<void>): Promise<LoadResult> {
  const targets = [{ proto: 'TCP', ip: IP, port: 80, timeoutMs: 300 }] as const;
  const { load } = await node.client.call('startLoad', { targets, width: 64, perSecond: 200, keepDetails: true });
  await act();
  return node.client.call('stopLoad', { load });
}

/** When the last attempt began that was not answered; -Infinity when all were. */
function lastFailure({ details }: LoadResult): number {
  const { startedAt, result, texts } = details!;
  return startedAt.findLast((_, row) => !texts[result[row]!]!.includes(':')) ?? Number.NEGATIVE_INFINITY;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

t.test('nft flush ruleset', { skip }, async (t) => {
  const { node, agent } = await start(t);
  let flushedAt = 0;
  const result = await underLoad(node, async () => {
    await pause(200);
    flushedAt = monotonicMs();
    node.nft('flush', 'ruleset');
    await agent.line('repaired', ({ msg }) => msg === REPAIRED);
    await pause(300);
  });
  const downMs = lastFailure(result) - flushedAt;
  t.comment(`${result.attempts - result.answered} of ${result.attempts} connections failed within ${downMs} ms`);
  t.ok(downMs > 0 && downMs < 1000, 'traffic is back within a second');
  const lines = agent.all(REPAIRED);
  t.equal(lines.length, 1, 'logged once');
  t.match(lines[0], { by: /^nft \(pid \d+\)$/, found: /./ }, 'with who did it and what was found');
  const { repairs, sync, verdict } = await agent.status();
  t.match(repairs, { count: 1, last: { culprit: /^nft / } }, 'counted in status');
  t.equal(sync?.failures, 0);
  t.equal(verdict, 'healthy');
});

t.test('single elements and rules', { skip }, async (t) => {
  const { node, agent } = await start(t);
  const service = `${IP} . tcp . 80`;
  const before = node.nft('list', 'map', 'ip', 'kubeplumb', 'services');
  const cases: [string, string][] = [
    ['an element is deleted', `delete element ip kubeplumb services { ${service} }`],
    ['a set is flushed', 'flush map ip kubeplumb endpoints; add element ip kubeplumb cluster-ips { 10.96.99.99 }'],
    ['a chain is flushed', 'flush chain ip kubeplumb nat-prerouting'],
    ['a table is deleted', 'delete table ip kubeplumb'],
  ];
  for (const [index, [name, commands]] of cases.entries()) {
    const began = monotonicMs();
    node.nft(commands);
    await until(`repaired: ${name}`, () => agent.all(REPAIRED).length > index);
    const ms = monotonicMs() - began;
    const answer = await node.client.dial({ proto: 'TCP', ip: IP, port: 80 });
    t.equal(answer.outcome, 'answered', `${name}: traffic works again`);
    // Pauses grow for somebody who keeps at it.
    t.ok(ms < 1000 * 2 ** index, `${name}: after ${Math.round(ms)} ms`);
    t.equal(node.nft('list', 'map', 'ip', 'kubeplumb', 'services'), before, `${name}: the rules are as before`);
  }
  t.notMatch(node.nft('list', 'set', 'ip', 'kubeplumb', 'cluster-ips'), '10.96.99.99');
  t.equal((await agent.status()).repairs.count, cases.length);
});

t.test('somebody who keeps flushing', { skip }, async (t) => {
  const { node, agent } = await start(t);
  let stoppedAt = 0;
  const began = monotonicMs();
  const result = await underLoad(node, async () => {
    while (monotonicMs() < began + 3000) {
      stoppedAt = monotonicMs();
      node.nft('flush', 'ruleset');
      await pause(300);
    }
    await until(
      'back',
      async () => (await node.client.dial({ proto: 'TCP', ip: IP, port: 80 })).outcome === 'answered',
    );
    await pause(500);
  });
  const downMs = lastFailure(result) - stoppedAt;
  const { repairs, verdict } = await agent.status();
  t.comment(`${repairs.count} repairs; back ${Math.round(downMs)} ms after the last flush`);
  t.ok(downMs < 3000, 'traffic is back once it stops');
  t.ok(repairs.count >= 2 && repairs.count <= 5, 'repairs are not a race');
  t.equal(agent.all(REPAIRED).length, repairs.count);
  t.equal(verdict, 'healthy');
});
