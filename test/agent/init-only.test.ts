// --init-only: the node is prepared as a normal start does it, and no rules are written (P-6).
import t from 'tap';
import { namespacesMissing } from '../support/namespaces.ts';
import type { RunningAgent } from '../support/running-agent.ts';
import { startTestNode, type TestNode } from '../support/test-node.ts';

const skip = (await namespacesMissing()) ?? false;
const ESTABLISHED = 'net.netfilter.nf_conntrack_tcp_timeout_established';
const ROUTE_LOCALNET = 'net.ipv4.conf.all.route_localnet';

const fileOf = (name: string): string => `/proc/sys/${name.replaceAll('.', '/')}`;
const sysctl = (node: TestNode, name: string): string => node.net.exec('node', ['cat', fileOf(name)]).trim();
const lastLine = (agent: RunningAgent): string => agent.lines.at(-1)?.msg ?? '';

t.test('--init-only prepares the node, and writes no rules', { skip }, async (t) => {
  const node = await startTestNode(t);
  // In namespaces of ordinary users the kernel lets nobody write it.
  const writable = /^-rw/.test(node.net.exec('node', ['ls', '-l', fileOf(ESTABLISHED)]));
  const flags = writable ? ['--conntrack-tcp-timeout-established=1h'] : [];
  t.equal(sysctl(node, ROUTE_LOCALNET), '0');
  const init = node.agent({ mode: 'iptables', flags: [...flags, '--init-only'] });
  t.equal(await init.ended, 0, lastLine(init));
  t.equal(init.all('this node is prepared').length, 1);
  t.equal(sysctl(node, ROUTE_LOCALNET), '1');
  if (writable) t.equal(sysctl(node, ESTABLISHED), '3600');
  t.notMatch(node.nft('list', 'ruleset'), /KUBE/);

  const agent = node.agent({ mode: 'iptables', flags });
  await agent.ready();
  t.equal(agent.all('set a kernel setting').length, 0, 'the agent finds all as it should be');
});

t.test('--init-only waits for the API server', { skip }, async (t) => {
  const node = await startTestNode(t);
  await node.server.close();
  const init = node.agent({ flags: ['--init-only'] });
  await init.line('retry', ({ msg }) => msg === 'Watch failed, trying again');
  await node.serve();
  t.equal(await init.ended, 0, lastLine(init));
});

t.test('--init-only that is stopped has not done its work', { skip }, async (t) => {
  const node = await startTestNode(t);
  await node.server.close();
  const init = node.agent({ flags: ['--init-only'] });
  await init.line('retry', ({ msg }) => msg === 'Watch failed, trying again');
  t.equal(await init.stop(), 1);
  t.equal(lastLine(init), 'kubeplumb: stopped before this node was prepared');
});
