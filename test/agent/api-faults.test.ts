// The API server fails in all kinds of ways while the agent runs or starts: rules stay, afterwards only the difference is sent.
import t, { type Test } from 'tap';
import type { ApiObject } from '../support/api-store.ts';
import { clusterObjects } from '../support/cluster.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import type { LoggedCounts, LogLine, RunningAgent } from '../support/running-agent.ts';
import { podIp, startTestNode, type TestNode, until } from '../support/test-node.ts';

const missing = await namespacesMissing();
const skip = missing ?? false;

const IP = '10.96.0.80';
const OTHERS = 200;
const objects: ApiObject[] = [
  rawService('web', { clusterIP: IP, clusterIPs: [IP] }),
  rawSlice('web-1', 'web', [podIp(1)]),
  ...clusterObjects({ services: OTHERS, endpointsPerService: 3 }),
];

/** Runs `act` while a client connects; tells whether all connections were answered. */
async function underLoad(t: Test, node: TestNode, act: () => Promise<void>): Promise<void> {
  const targets = [{ proto: 'TCP', ip: IP, port: 80 }] as const;
  const { load } = await node.client.call('startLoad', { targets, width: 64, perSecond: 200 });
  await act();
  const { attempts, answered, results } = await node.client.call('stopLoad', { load });
  t.equal(answered, attempts, `traffic works throughout: ${JSON.stringify(results)}`);
}

/** Everything that reached the kernel since line `from`. */
function sent(agent: RunningAgent, from: number): LoggedCounts {
  const total = { added: 0, deleted: 0, objects: 0, transactions: 0 };
  for (const line of agent.lines.slice(from)) {
    if (line.msg !== 'synced') continue;
    for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += line[key] as number;
  }
  return total;
}

/** Waits until the client reaches exactly these pods. */
async function reaches(node: TestNode, pods: readonly number[]): Promise<void> {
  const expected = pods.map((n) => `pod-${n}`).join();
  await until(`the client reaches ${expected}`, async () => {
    const attempts = await node.client.call('connect', { proto: 'TCP', ip: IP, port: 80, count: 30, width: 10 });
    const hosts = new Set(attempts.map((attempt) => (attempt.outcome === 'answered' ? attempt.host : attempt.outcome)));
    return [...hosts].sort().join() === expected;
  });
}

const watchesAreBack = (agent: RunningAgent) => async (): Promise<boolean> =>
  (await agent.status()).watches.every(({ lastError }) => lastError === null);
const failed = ({ msg }: LogLine): boolean => msg === 'Watch failed, trying again';

t.test('faults of a running API server', { skip }, async (t) => {
  const node = await startTestNode(t, { objects });
  const { store } = node.server;
  const agent = node.agent();
  await agent.ready();

  await t.test('an outage during which endpoints change', async (t) => {
    const from = agent.lines.length;
    await underLoad(t, node, async () => {
      await node.server.close();
      await agent.line('watch failed', failed, { from });
      const { verdict, reasons } = await agent.status();
      t.equal(verdict, 'degraded');
      t.match(reasons.join(), /watch of .*: .*(ECONNREFUSED|closed|socket|terminated)/i, 'status says why');
      t.strictSame(await agent.health(), { healthz: 200, livez: 200 }, 'the node goes on taking traffic');
      store.put(rawSlice('web-1', 'web', [podIp(1), podIp(2)]));
      await node.serve();
      await reaches(node, [1, 2]);
    });
    await until('healthy', watchesAreBack(agent));
    const { added, deleted, objects: made } = sent(agent, from);
    t.ok(
      added <= 6 && deleted <= 6 && made <= 20,
      `only the difference was sent: +${added} -${deleted}, ${made} objects`,
    );
  });

  await t.test('410: the history is gone', async (t) => {
    const from = agent.lines.length;
    await underLoad(t, node, async () => {
      await node.server.close();
      store.put(rawSlice('web-1', 'web', [podIp(2), podIp(3)]));
      store.delete('Service', 'ns-0', 'svc-7');
      store.compact();
      await node.serve();
      await reaches(node, [2, 3]);
      await until('the Service is gone', async () => (await agent.status()).counts.services === OTHERS);
    });
    await agent.line('410', ({ msg }) => msg === 'Watch cannot be continued, listing again', { from });
    await until('synced', () => sent(agent, from).deleted >= 4);
    const { added, deleted } = sent(agent, from);
    t.ok(added <= 6 && deleted <= 12, `only the difference was sent: +${added} -${deleted}`);
  });

  await t.test('garbage, half a line, and an event once more', async (t) => {
    const from = agent.lines.length;
    await underLoad(t, node, async () => {
      for (const bytes of [
        'garbage\n',
        '{"type":"ADDED","object":{"kind":"Service"',
        '{"type":"ADDED","object":17}\n',
        '\0\xff\n',
      ]) {
        node.server.sendRaw('services', bytes);
        node.server.sendRaw('endpointslices', bytes);
      }
      node.server.dropWatches('cut');
      store.put(rawSlice('web-1', 'web', [podIp(3)]));
      await reaches(node, [3]);
    });
    await until('healthy', watchesAreBack(agent));
    const { added, deleted } = sent(agent, from);
    t.ok(added <= 6 && deleted <= 6, `only the difference was sent: +${added} -${deleted}`);
  });

  await t.test('errors and refusals', async (t) => {
    await underLoad(t, node, async () => {
      node.server.failNext({ status: 500 }, { status: 429, retryAfter: '1' }, { status: 503 }, { status: 401 });
      node.server.dropWatches('end');
      store.put(rawSlice('web-1', 'web', [podIp(4)]));
      await reaches(node, [4]);
    });
    await until('healthy', watchesAreBack(agent));
  });

  t.equal((await agent.status()).sync?.failures, 0);
});

t.test('a start without API server', { skip }, async (t) => {
  const node = await startTestNode(t, { objects });
  const first = node.agent();
  await first.ready();
  await first.stop();
  const listed = (): string => node.nft('list', 'ruleset');
  const before = listed();

  await t.test('beside the rules of the agent before', async (t) => {
    await underLoad(t, node, async () => {
      await node.server.close();
      const agent = node.agent();
      await agent.line('watch failed', failed);
      await agent.line('watch failed again', failed, { from: agent.lines.findIndex(failed) + 1 });
      t.equal(listed(), before, 'nothing is programmed before all sources are complete once');
      t.match(await agent.status(), { verdict: 'starting', sync: null });
      t.strictSame(await agent.health(), { healthz: 503, livez: 200 }, 'alive, but not for load balancers yet');
      await node.serve();
      t.match(await agent.ready(), { added: 0, deleted: 0, objects: 0 }, 'it connects when the server is back');
      t.strictSame(await agent.health(), { healthz: 200, livez: 200 });
      t.equal(await agent.stop(), 0);
    });
  });

  await t.test('one kind does not arrive', async (t) => {
    await underLoad(t, node, async () => {
      const agent = node.agent();
      node.server.failNext(
        ...Array.from({ length: 4 }, () => ({
          status: 500,
          when: (r: { resource: string }) => r.resource === 'endpointslices',
        })),
      );
      await agent.line('slices fail', (line) => failed(line) && line.kind === 'EndpointSlice');
      t.equal(listed(), before, 'Services without their endpoints are not programmed');
      t.match(await agent.ready(), { added: 0, deleted: 0, objects: 0 });
      t.equal(await agent.stop(), 0);
    });
  });

  await t.test('SIGTERM while it waits', async (t) => {
    await node.server.close();
    const agent = node.agent();
    await agent.line('watch failed', failed);
    t.equal(await agent.stop(), 0, 'ends at once');
    t.equal(listed(), before);
  });
});
