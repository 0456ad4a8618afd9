// SIGTERM: the rules stay, and the next agent takes them over as they are.
import t from 'tap';
import type { ApiObject } from '../support/api-store.ts';
import { clusterObjects } from '../support/cluster.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { podIp, startTestNode } from '../support/test-node.ts';
import { scaled, scaledRate } from '../support/time-scale.ts';

const missing = await namespacesMissing();

const IP = '10.96.0.80';
const STICKY_IP = '10.96.0.81';
const objects: ApiObject[] = [
  rawService('web', { clusterIP: IP, clusterIPs: [IP] }),
  rawSlice('web-1', 'web', [podIp(1), podIp(2)]),
  rawService('sticky', { clusterIP: STICKY_IP, clusterIPs: [STICKY_IP], sessionAffinity: 'ClientIP' }),
  rawSlice('sticky-1', 'sticky', [podIp(1), podIp(2), podIp(3)]),
  ...clusterObjects({ services: 300, endpointsPerService: 5 }),
];

t.test('SIGTERM and a new start under load', { skip: missing ?? false }, async (t) => {
  const node = await startTestNode(t, { objects });
  const first = node.agent();
  await first.ready();
  const targets = [IP, STICKY_IP].map((ip) => ({ proto: 'TCP', ip, port: 80 }) as const);
  const { load } = await node.client.call('startLoad', {
    targets,
    width: 64,
    perSecond: scaledRate(300),
    keepDetails: true,
  });
  const listed = (): string => node.nft('list', 'ruleset').replace(/ expires [^ ,}]+/g, '');
  const before = listed();

  t.equal(await first.stop(), 0, 'exit code');
  t.match(first.lines.at(-1), { msg: 'stopping; the rules stay in place' }, 'it says what it leaves');
  t.equal(listed(), before, 'the rules are untouched');

  const second = node.agent();
  t.match(await second.ready(), { added: 0, deleted: 0, objects: 0, transactions: 0 }, 'a restart sends nothing');
  t.equal(await second.stop('SIGINT'), 0, 'SIGINT does the same');

  node.server.store.put(rawSlice('web-1', 'web', [podIp(2), podIp(3)]));
  const third = node.agent();
  const { added, deleted, objects: made } = await third.ready();
  t.ok(added > 0 && added <= 6 && deleted <= 6 && made === 0, `what changed meanwhile costs +${added} -${deleted}`);
  await new Promise((resolve) => setTimeout(resolve, scaled(200)));

  const { attempts, answered, results, details } = await node.client.call('stopLoad', { load });
  t.equal(answered, attempts, `${attempts} connections: ${JSON.stringify(results)}`);
  const sticky = new Set<string>();
  for (const [row, target] of details!.target.entries())
    if (target === 1) sticky.add(details!.texts[details!.result[row]!]!);
  t.equal(sticky.size, 1, 'session affinity outlives the agents');
});
