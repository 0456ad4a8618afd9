// Health checks through every state of Node, Service and syncs, as recorded beside kube-proxy 1.36 (fixtures/operations);
// and each difference between the two recordings has its reason in docs/compared.md.
import { readFileSync } from 'node:fs';
import t from 'tap';
import type { ApiObject } from '../support/api-store.ts';
import type { Raw } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { COURSE_FLAGS, operationsCourse, type Recorded } from '../support/operations-course.ts';
import { NODE_NAME } from '../support/running-agent.ts';
import { startTestNode, type TestNode } from '../support/test-node.ts';
import { scaled } from '../support/time-scale.ts';

const missing = await namespacesMissing();
type Sides = Record<'kube-proxy' | 'kubeplumb', { states: Recorded; endedBySIGTERM: number | string }>;
const recorded: Sides = JSON.parse(
  readFileSync(new URL('../fixtures/operations/health.json', import.meta.url), 'utf8'),
);

/** Objects with finalizers are kept when they are removed, as by a real server. */
function cluster({ server: { store } }: TestNode) {
  const slow = new Map<string, Raw>();
  const keyOf = ({ kind, metadata }: Raw): string => `${kind} ${metadata.namespace ?? ''} ${metadata.name}`;
  return {
    put(object: Raw) {
      const { finalizers } = object.metadata;
      const deleting = slow.get(keyOf(object))?.metadata.deletionTimestamp !== undefined;
      slow.delete(keyOf(object));
      if (finalizers?.length > 0) slow.set(keyOf(object), object);
      if (deleting) store.delete(object.kind, object.metadata.namespace ?? '', object.metadata.name);
      else store.put(object as ApiObject);
    },
    remove(kind: string, namespace: string, name: string) {
      const object = slow.get(`${kind} ${namespace} ${name}`);
      if (object === undefined) return store.delete(kind, namespace, name);
      object.metadata.deletionTimestamp = new Date().toISOString();
      store.put(object);
    },
  };
}

t.test('the agent answers as recorded', { skip: missing ?? false, timeout: scaled(110_000) }, async (t) => {
  const node = await startTestNode(t);
  node.server.store.delete('Node', '', NODE_NAME);
  const agent = node.agent({ flags: COURSE_FLAGS });
  const states = await operationsCourse({
    spawn: (argv) => node.net.spawn('node', argv, { stdio: ['pipe', 'pipe', 'inherit'] }),
    api: cluster(node),
    table: 'kubeplumb',
    starting: { healthz: '503', livez: '200', service: 'refused' },
    settleMs: 200,
  });
  t.strictSame(Object.keys(states), Object.keys(recorded.kubeplumb.states));
  for (const [state, answers] of Object.entries(states)) {
    for (const [question, answer] of Object.entries(answers)) {
      t.strictSame(answer, recorded.kubeplumb.states[state]?.[question], `${state}: ${question}`);
    }
  }
  t.equal(await agent.stop('SIGTERM'), recorded.kubeplumb.endedBySIGTERM);
});

/** Where the recordings may differ: state, question, and place in the answer. The reasons are in docs/compared.md. */
const DIFFERENCES: readonly RegExp[] = [
  /^started, the Node is not there (healthz|livez) /,
  /^[^/]* (healthz|livez)\b.* body\/(watches|conditions|refusedServices)\b/,
  /^[^/]* connection kept headers\/(Connection|Keep-Alive)$/,
  /^syncs fail (healthz|livez) body\/(healthy|status\/IPv[46]\/healthy|problems\/0|conditions\/0)$/,
  /^syncs fail service (headers\/X-Load-Balancing-Endpoint-Weight|body\/localEndpoints)$/,
];

function leaves(value: unknown, path: string): [path: string, leaf: unknown][] {
  if (value === null || typeof value !== 'object') return [[path, value]];
  const parts = Object.entries(value);
  if (parts.length === 0) return [[path, '']];
  return parts.flatMap(([key, part]) => leaves(part, path === '' ? key : `${path}/${key}`));
}

t.test('kube-proxy was recorded to answer the same, but for what is told', async (t) => {
  const proxy = recorded['kube-proxy'].states;
  const agent = recorded.kubeplumb.states;
  t.strictSame(Object.keys(proxy), Object.keys(agent));
  const used = new Set<RegExp>();
  let compared = 0;
  for (const [state, questions] of Object.entries(agent)) {
    for (const [question, answer] of Object.entries(questions)) {
      const [theirs, ours] = [new Map(leaves(proxy[state]?.[question], '')), new Map(leaves(answer, ''))];
      for (const place of new Set([...theirs.keys(), ...ours.keys()])) {
        compared++;
        if (theirs.get(place) === ours.get(place)) continue;
        const where = `${state} ${question} ${place}`;
        const told = DIFFERENCES.find((pattern) => pattern.test(where));
        if (told === undefined) t.fail(`${where}: ${theirs.get(place)} and ${ours.get(place)}`);
        else used.add(told);
      }
    }
  }
  t.ok(compared > 500, `${compared} values`);
  t.strictSame([...used].map(String).sort(), DIFFERENCES.map(String).sort(), 'no difference is told in vain');
  t.strictSame([recorded['kube-proxy'].endedBySIGTERM, recorded.kubeplumb.endedBySIGTERM], ['SIGTERM', 0]);
});
