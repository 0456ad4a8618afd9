// Broken objects of all kinds among good Services: the good ones work, and each broken one is named once.
import t from 'tap';
import { BROKEN_KINDS, SILENT_KINDS, TAKEN_PORT } from '../fixtures/broken-objects.ts';
import type { ApiObject } from '../support/api-store.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import type { LogLine } from '../support/running-agent.ts';
import { podIp, startTestNode, type TestNode, until } from '../support/test-node.ts';

const missing = await namespacesMissing();
const GOOD = 100;

const goodIp = (i: number): string => `10.96.1.${i}`;
const good: ApiObject[] = Array.from({ length: GOOD }, (_, i) => [
  rawService(`good-${i}`, { clusterIP: goodIp(i), clusterIPs: [goodIp(i)] }),
  rawSlice(`good-${i}-1`, `good-${i}`, [podIp(1 + (i % 4))]),
]).flat();

/** Which good Services answer from their pod, by connecting to each. */
async function working(node: TestNode): Promise<number> {
  const attempts = await Promise.all(
    Array.from({ length: GOOD }, (_, i) => node.client.dial({ proto: 'TCP', ip: goodIp(i), port: 80 })),
  );
  return attempts.filter((a, i) => a.outcome === 'answered' && a.host === `pod-${1 + (i % 4)}`).length;
}

/** The objects that lines of the log complain about. */
function namedBy(lines: readonly LogLine[]): string[] {
  return lines.flatMap(({ msg, object, service }) => {
    if (msg === 'an object cannot be used as it is') return [String(object)];
    return msg === 'cannot open a health check node port' ? [`Service ${service}`] : [];
  });
}

t.test('broken objects', { skip: missing ?? false }, async (t) => {
  t.ok(BROKEN_KINDS.length >= 50, `${BROKEN_KINDS.length} kinds`);
  const half = BROKEN_KINDS.length >> 1;
  const objectsOf = (kinds: readonly { readonly objects: readonly ApiObject[] }[]) => kinds.flatMap((k) => k.objects);
  // One half is there from the start, between the good ones; the other half comes later.
  const first = objectsOf(BROKEN_KINDS.slice(0, half));
  const node = await startTestNode(t, {
    objects: [...good.slice(0, GOOD), ...first, ...good.slice(GOOD), ...objectsOf(SILENT_KINDS.slice(0, 5))],
  });
  const { store } = node.server;
  await node.net.host('node').call('listen', { proto: 'TCP', ip: '0.0.0.0', port: TAKEN_PORT });
  const agent = node.agent();
  await agent.ready();
  let changes = 0;
  /** Puts objects and waits until all of them have been dealt with; each kind has a watch of its own. */
  const put = async (objects: readonly ApiObject[]): Promise<void> => {
    for (const object of objects) store.put(object);
    const marker = { clusterIP: '10.96.0.99', clusterIPs: ['10.96.0.99'], ports: [{ port: ++changes }] };
    const { version } = store.put(rawSlice('marker-1', 'marker', []));
    await agent.acknowledged(store.put(rawService('marker', marker)).version, 'Service');
    await agent.acknowledged(version);
  };
  const problems = async (): Promise<string[]> => [
    ...new Set((await agent.status()).problems.map(({ object }) => object)),
  ];

  t.equal(await working(node), GOOD, 'all good Services work when it starts among broken ones');
  await put([...objectsOf(BROKEN_KINDS.slice(half)), ...objectsOf(SILENT_KINDS.slice(5))]);
  const nameless = [
    '{}',
    '7',
    'null',
    '[]',
    '{"metadata":null}',
    '{"metadata":{"name":""}}',
    '{"metadata":{"name":[]}}',
  ];
  for (const object of nameless) {
    node.server.sendRaw('services', `{"type":"ADDED","object":${object}}\n`);
    node.server.sendRaw('endpointslices', `{"type":"MODIFIED","object":${object}}\n`);
  }
  await put([]);
  t.equal(await working(node), GOOD, 'and when more come');

  const expected = BROKEN_KINDS.map(({ named }) => named);
  t.equal(new Set(expected).size, expected.length);
  const inStatus = await problems();
  const inLog = namedBy(agent.lines);
  for (const { what, named } of BROKEN_KINDS) {
    const times = inLog.filter((name) => name === named).length;
    if (times !== 1 || !inStatus.includes(named))
      t.fail(
        `${what}: ${named} is named ${times} times in the log, ${inStatus.includes(named) ? '' : 'not '}in status`,
      );
  }
  t.strictSame(
    inLog.filter((name) => !expected.includes(name)),
    [],
    'the log complains about nothing else',
  );
  t.strictSame(
    inStatus.filter((name) => !expected.includes(name)),
    [],
    'nor does status',
  );
  t.equal(agent.all('Ignoring an object without metadata.name').length, 2, 'objects without a name are told per kind');

  const from = agent.lines.length;
  await put(objectsOf(BROKEN_KINDS));
  t.strictSame(namedBy(agent.lines.slice(from)), [], 'a new version that is as broken is no news');

  const { sync, verdict, rssBytes } = await agent.status();
  t.match(sync, { failures: 0, refused: { length: 0 } }, 'the kernel has accepted all that was sent');
  t.equal(verdict, 'healthy', 'it is the objects that are broken, not the agent');
  t.comment(`resident memory ${Math.round(rssBytes / 2 ** 20)} MiB`);
  t.ok(rssBytes < 400 * 2 ** 20, 'memory');

  const mended = BROKEN_KINDS.filter(({ mended }, i) => i % 2 === 0 && mended.length > 0);
  await put(mended.flatMap((kind) => kind.mended));
  const gone = mended.map(({ named }) => named);
  const left = expected.filter((name) => !gone.includes(name));
  t.strictSame(
    (await problems()).sort(),
    left.sort(),
    `${gone.length} mended ones vanish from status, the others stay`,
  );

  for (const { objects } of BROKEN_KINDS)
    for (const { kind, metadata } of objects) store.delete(kind, metadata.namespace ?? '', metadata.name);
  await until('forgotten', async () => (await problems()).length === 0);
  t.equal(await working(node), GOOD, 'and the good ones still work');
});
