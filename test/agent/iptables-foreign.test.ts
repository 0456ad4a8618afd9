// Others use the same tables: firewalld, docker, Calico, the portmap plugin, an administrator with policy DROP. Whatever
// the agent does (start, changes, change of mode and back, cleanup), while they go on adding and deleting rules: theirs
// are the same afterwards, in the same order.
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { FAMILIES, type Family } from '../../native/ip.ts';
import { FOREIGN_RULES } from '../fixtures/foreign-iptables.ts';
import { inVariant, NodeTools, VARIANTS, variantMissing } from '../support/iptables-node.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { podIp, startTestNode, type TestNode, until } from '../support/test-node.ts';

const missing = await namespacesMissing();
const IP = '10.96.0.80';
const CHANGES = 100;
const OURS =
  /KUBE-(SERVICES|EXTERNAL-SERVICES|NODEPORTS|FORWARD|PROXY-FIREWALL|POSTROUTING|MARK-MASQ|PROXY-CANARY|(SVC|SVL|EXT|FW|SEP)-)/;
/** Made by us where nobody had it, and left to the kubelet. */
const SHARED = /KUBE-FIREWALL/;
/** Sources in rules that come and go meanwhile. */
const PASSERS: Readonly<Record<Family, string>> = { IPv4: '198.51.100.99', IPv6: '2001:db8:99::99' };
const PASSING = /198\.51\.100\.99|2001:db8:99::99/;

const FIREWALLD = `table inet firewalld {
  set ports { type inet_service; elements = { 22, 443 } }
  chain filter_INPUT { type filter hook input priority filter + 10; policy accept; tcp dport @ports accept; ct state invalid drop; }
  chain nat_PREROUTING { type nat hook prerouting priority dstnat + 10; policy accept; tcp dport 8081 redirect to :81; }
}
table ip nat-of-others {
  chain pre { type nat hook prerouting priority -90; tcp dport 8082 redirect to :82; }
}
`;

/** Everything that is not ours, as the tools list it. */
function foreign(node: TestNode, tools: NodeTools): string[] {
  const ofFamily = (family: Family): string[] =>
    tools
      .saved(family)
      .filter((line) => !OURS.test(line) && !PASSING.test(line) && !(family === 'IPv6' && SHARED.test(line)))
      .map((line) => `${family} ${line}`);
  const native = ['inet firewalld', 'ip nat-of-others'].map((name) =>
    node.nft('-a', 'list', 'table', ...name.split(' ')),
  );
  return [...FAMILIES.flatMap(ofFamily), ...native];
}

/** Handles of the rules of others: a rule that was deleted and added again has another one. */
function handles(node: TestNode): string[] {
  const out: string[] = [];
  let table = '';
  let chain = '';
  for (const line of node.nft('-a', 'list', 'ruleset').split('\n')) {
    table = /^table \S+ (\S+) /.exec(line)?.[1] ?? table;
    chain = /^\tchain (\S+) /.exec(line)?.[1] ?? chain;
    if (table === 'kubeplumb' || !line.startsWith('\t\t') || !line.includes('# handle')) continue;
    if ([OURS, SHARED].some((ours) => ours.test(chain) || ours.test(line)) || PASSING.test(line)) continue;
    out.push(`${table} ${chain}: ${line.trim().replace(/counter packets \d+ bytes \d+ ?/, '')}`);
  }
  return out;
}

/** Others add and delete rules until told to stop. @returns how many rounds there were */
function others(node: TestNode, tools: NodeTools): () => Promise<number> {
  const flag = join(tmpdir(), `kubeplumb-test-${process.pid}-${tools.variant}`);
  writeFileSync(flag, '');
  const commands = FAMILIES.flatMap((family) =>
    ['-A', '-D'].flatMap((op) =>
      ['-t nat OP POSTROUTING', '-t filter OP FORWARD'].map(
        (place) => `${tools.program(family)} -w 10 ${place.replace('OP', op)} -s ${PASSERS[family]} -j RETURN`,
      ),
    ),
  );
  const script = `set -e; i=0; while [ -e ${flag} ]; do ${commands.join('; ')}; i=$((i+1)); sleep 0.05; done; echo $i`;
  const child = node.net.spawn('node', ['sh', '-c', script], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let problems = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (output += text));
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (problems += text));
  const ended = new Promise<number>((resolve, reject) => {
    child.once('close', (code) => (code === 0 ? resolve(Number(output)) : reject(new Error(`${code}: ${problems}`))));
  });
  ended.catch(() => {});
  return () => {
    rmSync(flag, { force: true });
    return ended;
  };
}

for (const variant of VARIANTS) {
  t.test(`iptables-${variant}`, { skip: missing ?? variantMissing(variant) }, async (t) => {
    const objects = [
      rawService('web', { clusterIP: IP, clusterIPs: [IP] }),
      rawSlice('web-1', 'web', [podIp(1), podIp(3)]),
      rawService('other', { clusterIP: '10.96.0.81', clusterIPs: ['10.96.0.81'] }),
    ];
    const node = await startTestNode(t, { objects });
    const tools = new NodeTools(node.net, variant);
    for (const family of FAMILIES) tools.restore(family, FOREIGN_RULES[family]);
    node.net.exec('node', ['nft', '-f', '-'], FIREWALLD);
    const before = foreign(node, tools);
    const handlesBefore = handles(node);
    t.ok(before.filter((line) => line.includes(' -A ')).length >= 40, `${before.length} lines of others`);
    t.ok(before.includes('IPv4 :FORWARD DROP') && before.includes('IPv6 :INPUT DROP'));
    const stopOthers = others(node, tools);
    t.teardown(() => stopOthers().catch(() => {}));
    const same = (when: string): void => {
      t.strictSame(foreign(node, tools), before, when);
      t.strictSame(handles(node), handlesBefore, `${when}: the very same rules`);
    };
    const works = async (when: string): Promise<void> => {
      const { outcome } = await node.client.dial({ proto: 'TCP', ip: IP, port: 80 });
      t.equal(outcome, 'answered', `${when}: the Service works under policy DROP`);
    };
    const hasRules = (): boolean =>
      FAMILIES.some((family) => tools.saved(family).some((line) => line.startsWith(':KUBE-SERVICES')));

    let agent = node.agent(inVariant(variant));
    await agent.ready();
    t.ok(hasRules());
    same('after the start');
    await works('after the start');

    let version = 0;
    for (let i = 0; i < CHANGES; i++) {
      const ips = Array.from({ length: i % 5 }, (_, n) => `10.128.9.${1 + ((i + n) % 20)}`);
      version = node.server.store.put(rawSlice('other-1', 'other', ips)).version;
      if (i % 4 === 0) await new Promise((resolve) => setTimeout(resolve, 40));
    }
    await agent.acknowledged(version);
    same(`after ${CHANGES} changes`);
    await works(`after ${CHANGES} changes`);
    t.match((await agent.status()).repairs, { count: 0 }, 'what others do is no drift');

    await agent.stop();
    agent = node.agent();
    await agent.ready();
    await until('our iptables rules are gone', () => !hasRules());
    same('in nftables mode');
    await agent.stop();
    agent = node.agent(inVariant(variant));
    await agent.ready();
    await until('our nftables rules are gone', () => !node.nft('list', 'tables').includes('kubeplumb'));
    same('back in iptables mode');
    await works('back in iptables mode');
    await agent.stop();

    const cleanup = node.agent({ ...inVariant(variant), flags: ['--cleanup'] });
    t.equal(await cleanup.ended, 0, JSON.stringify(cleanup.lines));
    t.notOk(hasRules());
    same('after the cleanup');
    const rounds = await stopOthers();
    t.ok(rounds > 5, `others changed rules ${rounds * 8} times meanwhile`);
    for (const family of FAMILIES) {
      const left = tools.saved(family).filter((line) => OURS.test(line) || PASSING.test(line));
      t.strictSame(left, [], 'nothing of ours is left, nor of what passed by');
    }
  });
}
