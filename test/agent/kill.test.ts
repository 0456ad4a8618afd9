// kill -9 at random moments of a cold sync: the next agent makes the state right and leaves nothing behind.
import { readdirSync } from 'node:fs';
import { dirname } from 'node:path';
import t from 'tap';
import { TABLE } from '../../backends/nftables/schema.ts';
import { RulesetMonitor } from '../../backends/ruleset-monitor.ts';
import type { ApiObject } from '../support/api-store.ts';
import { clusterObjects, mulberry32 } from '../support/cluster.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { podIp, startTestNode, type TestNode } from '../support/test-node.ts';

const missing = await namespacesMissing();
const SERVICES = Number(process.env.KILL_SERVICES ?? 1500);
const ROUNDS = Number(process.env.KILL_ROUNDS ?? 8);
const REAL = 20;

const realIp = (i: number): string => `10.96.0.${i + 10}`;
const objects: ApiObject[] = [...clusterObjects({ services: SERVICES, endpointsPerService: 5 })];
// Spread among the others, some Services have pods that answer.
for (let i = 0; i < REAL; i++) {
  const at = Math.floor((i * objects.length) / REAL);
  const ip = realIp(i);
  objects.splice(
    at,
    0,
    rawService(`web-${i}`, { clusterIP: ip, clusterIPs: [ip], sessionAffinity: i % 4 === 0 ? 'ClientIP' : 'None' }),
    rawSlice(`web-${i}-1`, `web-${i}`, [podIp(1 + (i % 4)), podIp(1 + ((i + 1) % 4))]),
  );
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Resolves at the first change of the agent's tables. */
async function firstChange(monitor: RulesetMonitor): Promise<void> {
  while (!monitor.drain().touched) await new Promise((resolve) => setImmediate(resolve));
}

/** What must be the same however the rules came about: the tables, and how many elements each set holds but the one packets fill. */
function fingerprint(node: TestNode): string[] {
  const out: string[] = [node.nft('list', 'tables')];
  const { nftables } = JSON.parse(node.nft('-j', 'list', 'ruleset')) as { nftables: Record<string, Listed>[] };
  for (const entry of nftables) {
    const [kind = '', object] = Object.entries(entry)[0] ?? [];
    if (object?.table !== undefined && object.name !== undefined && object.name !== 'affinity')
      out.push(`${kind} ${object.family} ${object.table} ${object.name} ${object.elem?.length ?? 0}`);
  }
  return out.sort();
}

interface Listed {
  readonly family: string;
  readonly table?: string;
  readonly name?: string;
  readonly elem?: readonly unknown[];
}

t.test('killed in the middle of a cold sync', { skip: missing ?? false }, async (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  t.comment(`SEED=${seed}`);
  const random = mulberry32(seed);
  const node = await startTestNode(t, { objects });
  const monitor = node.net.within(
    'node',
    () => new RulesetMonitor(0, ({ table }) => (table === TABLE ? 'touched' : null)),
  );
  t.teardown(() => monitor.close());

  const first = node.agent();
  const cold = await first.ready();
  t.ok(cold.added > SERVICES * 5, `a cold sync adds ${cold.added} elements in ${cold.transactions} transactions`);
  const { firstDurationMs } = (await first.status()).sync!;
  await first.stop();
  const clean = fingerprint(node);

  for (let round = 0; round < ROUNDS; round++) {
    node.nft('flush', 'ruleset');
    monitor.drain();
    const victim = node.agent();
    let moment: string;
    if (round % 2 === 0) {
      // Before the rules are there, or in between when they take several transactions.
      await victim.line('first sync begins', ({ msg }) => msg === 'first sync begins');
      const ms = random() * firstDurationMs!;
      moment = `${ms.toFixed(1)} ms into the sync`;
      await pause(ms);
    } else {
      await firstChange(monitor);
      const ms = random() * 30;
      moment = `${ms.toFixed(1)} ms after the first change`;
      await pause(ms);
    }
    const told = victim.all('rules are in place').length;
    t.equal(await victim.stop('SIGKILL'), 'SIGKILL');
    const tables = node.nft('list', 'tables').trim().split('\n').length;

    const next = node.agent();
    const { added, deleted, objects: made, transactions } = await next.ready();
    t.comment(
      `${moment} (${told ? 'after' : 'before'} its end, ${tables} tables): +${added} -${deleted}, ${made} objects, ${transactions} transactions`,
    );
    t.equal(added <= cold.added, true, `${moment}: no more is added than in a cold sync`);
    for (const i of [0, 3, 7, REAL - 1]) {
      const answer = await node.client.dial({ proto: 'TCP', ip: realIp(i), port: 80 });
      t.equal(answer.outcome, 'answered', `${moment}: Service web-${i} works`);
    }
    const { verdict, repairs } = await next.status();
    t.match({ verdict, repairs: repairs.count }, { verdict: 'healthy', repairs: 0 }, moment);
    t.equal(await next.stop(), 0);
    if (round < ROUNDS - 2) continue;
    t.strictSame(fingerprint(node), clean, `${moment}: nothing is missing and nothing left over`);
    const last = node.agent();
    t.match(
      await last.ready(),
      { added: 0, deleted: 0, objects: 0, transactions: 0 },
      `${moment}: a restart sends nothing`,
    );
    t.strictSame(readdirSync(dirname(last.socket)), ['agent.sock'], 'one socket');
    await last.stop();
    t.strictSame(readdirSync(dirname(last.socket)), [], 'and none when it has stopped');
  }
});
