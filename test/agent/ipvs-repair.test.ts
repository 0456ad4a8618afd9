// What others delete in ipvs mode comes back and is named in the log: the companion table at once, virtual servers and
// addresses at the check of every --ipvs-sync-period.
import t from 'tap';
import type { ApiObject } from '../support/api-store.ts';
import { clusterObjects } from '../support/cluster.ts';
import { IpvsNode, inIpvs, ipvsMissing } from '../support/ipvs-node.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { podIp, startTestNode, until } from '../support/test-node.ts';

const skip = await ipvsMissing();
t.setTimeout(240_000);

const IP = '10.96.0.80';
const objects: ApiObject[] = [
  rawService('web', { clusterIP: IP, clusterIPs: [IP] }),
  rawSlice('web-1', 'web', [podIp(1), podIp(2)]),
  ...clusterObjects({ services: 50, endpointsPerService: 3 }),
];
const REPAIRED = 'rules were changed by somebody else and have been repaired';

t.test('repairs', { skip }, async (t) => {
  const node = await startTestNode(t, { objects });
  const ipvs = new IpvsNode(node.net);
  const options = inIpvs('--ipvs-sync-period=3s', '--ipvs-exclude-cidrs=203.0.113.0/24');
  ipvs.ipvsadm('-A', '-t', '203.0.113.7:443', '-s', 'lc');
  ipvs.ipvsadm('-A', '-t', '198.51.100.7:443', '-s', 'lc');
  const agent = node.agent(options);
  await agent.ready();
  t.strictSame(ipvs.shown('TCP 203.0.113.7:443'), ['TCP 203.0.113.7:443 lc'], 'in an excluded range: it stays');
  t.strictSame(ipvs.shown('TCP 198.51.100.7:443'), [], 'outside: it goes');
  const intact = (): string => [ipvs.ipvsadm('-S', '-n').split('\n').sort(), ipvs.addresses()].join('\n');
  const before = intact();
  const tables = (): string => node.nft('list', 'table', 'ip', 'kubeplumb-ipvs');
  const table = tables();
  const works = async (): Promise<void> => {
    t.equal((await node.client.dial({ proto: 'TCP', ip: IP, port: 80 })).outcome, 'answered');
  };
  await works();

  const nft = (...argv: string[]) => [() => node.nft(...argv), /^companion table: /] as const;
  const damages: readonly (readonly [string, () => unknown, RegExp])[] = [
    ['ipvsadm -C', () => ipvs.ipvsadm('-C'), /^\d\d+ virtual servers changed, such as /],
    [
      'ip link del',
      () => node.net.exec('node', ['ip', 'link', 'del', 'kube-ipvs0']),
      /^\d+ addresses of kube-ipvs0 changed/,
    ],
    [
      'ip addr del',
      () => node.net.exec('node', ['ip', 'addr', 'del', `${IP}/32`, 'dev', 'kube-ipvs0']),
      new RegExp(`^1 addresses of kube-ipvs0 changed, such as ${IP}$`),
    ],
    ['nft flush set', ...nft('flush', 'set', 'ip', 'kubeplumb-ipvs', 'cluster')],
    ['nft delete table', ...nft('delete', 'table', 'ip', 'kubeplumb-ipvs')],
    ['nft flush ruleset', ...nft('flush', 'ruleset')],
  ];
  for (const [what, damage, found] of damages) {
    const { length } = agent.lines;
    const began = performance.now();
    damage();
    const line = await agent.line(`${what} is repaired`, ({ msg }) => msg === REPAIRED, { from: length });
    t.comment(`${what}: repaired after ${Math.round(performance.now() - began)} ms`);
    t.match(line, { found }, `${what}: named`);
    // A foreign virtual server that was deleted is nobody's here.
    if (what === 'ipvsadm -C') ipvs.ipvsadm('-A', '-t', '203.0.113.7:443', '-s', 'lc');
    // A check that was under way may have seen half of it; the next one sees the rest.
    await until(`${what}: as before`, () => intact() === before);
    t.equal(tables().length, table.length, `${what}: the companion as well`);
    await works();
  }
  t.match(await agent.status(), { verdict: 'healthy', conditions: { length: 0 } });
  t.ok((await agent.status()).repairs.count >= damages.length, 'each repair is counted');
  t.equal(await agent.stop(), 0);

  const next = node.agent(options);
  t.match(await next.ready(), { added: 0, deleted: 0, objects: 0, transactions: 0 }, 'a second start sends nothing');
  t.equal(intact(), before);
  t.match((await next.status()).repairs, { count: 0 });
});
