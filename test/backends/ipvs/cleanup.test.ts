// Of kube-proxy in ipvs mode no iptables rule and no ipset stays, in either variant; what others have stays word for
// word, and so does what the mode that works on the node needs.
import { spawnSync } from 'node:child_process';
import t from 'tap';
import type { Mode } from '../../../backends/backend.ts';
import { removeProxyRules } from '../../../backends/iptables/cleanup.ts';
import { IPSETS, IPVS_CHAINS, leftoversBeside } from '../../../backends/iptables/proxy-rules.ts';
import type { Variant } from '../../../backends/iptables/run-tool.ts';
import { cleanup } from '../../../backends/ipvs/cleanup.ts';
import { IPVS_DEVICE } from '../../../backends/ipvs/device.ts';
import { FAMILIES } from '../../../native/ip.ts';
import { destroySets, setsPossible } from '../../../native/ipset.ts';
import { FOREIGN_RULES } from '../../fixtures/foreign-iptables.ts';
import { ipvsRules, ipvsSets } from '../../fixtures/kube-proxy-ipvs.ts';
import { TestTool } from '../../support/iptables-variant.ts';
import { enterNamespace } from '../../support/own-namespace.ts';

// First of all: an ordinary user's run begins anew in a user namespace.
const inNamespace = await enterNamespace(t);

t.test('names of sets', async (t) => {
  t.equal(IPSETS.length, 34);
  t.ok(IPSETS.every((name) => name.length <= 31));
  t.ok(IPSETS.includes('KUBE-6-LOAD-BALANCER-SOURCE-CID') && IPSETS.includes('KUBE-6-NODE-PORT-LOCAL-SCTP-HAS'));
  const made = FAMILIES.flatMap(ipvsSets).map((line) => line.split(' ')[1]);
  t.strictSame([...IPSETS].sort(), made.sort());
});

t.test('what goes beside a mode that stays', async (t) => {
  const chains = (staying: Mode | null): string[] => {
    const { isChain } = leftoversBeside(staying);
    const all = [
      'KUBE-SERVICES',
      'KUBE-FORWARD',
      'KUBE-FIREWALL',
      'KUBE-PROXY-FIREWALL',
      ...IPVS_CHAINS.filter,
      'DOCKER',
    ];
    return all.filter((chain) => isChain('filter', chain));
  };
  t.strictSame(chains('iptables'), IPVS_CHAINS.filter);
  t.strictSame(chains('ipvs'), ['KUBE-SERVICES', 'KUBE-PROXY-FIREWALL', ...IPVS_CHAINS.filter]);
  for (const staying of [null, 'nftables'] as const) {
    t.strictSame(chains(staying), ['KUBE-SERVICES', 'KUBE-FORWARD', 'KUBE-PROXY-FIREWALL', ...IPVS_CHAINS.filter]);
  }
  const jumps = (staying: Mode | null): number => leftoversBeside(staying).jumps.length;
  t.strictSame([jumps(null), jumps('nftables'), jumps('ipvs'), jumps('iptables')], [17, 17, 16, 5]);
});

function ipset(input: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync('ipset', args, { input, encoding: 'utf8' });
  if (error) throw error;
  if (status !== 0) throw new Error(`ipset ${args.join(' ')}: ${stderr.trim()}`);
  return stdout;
}

/** Why there can be no sets here, or false. */
function setsMissing(): string | false {
  const { status, error, stderr } = spawnSync('ipset', ['create', 'trial', 'hash:ip'], { encoding: 'utf8' });
  if (error) return 'no program "ipset"';
  if (status !== 0) return `no ipset: ${stderr.trim()}`;
  ipset('', 'destroy', 'trial');
  return !setsPossible() && '/sys does not tell of ipset';
}

const FOREIGN_SETS = ['create BLOCKED hash:net', 'add BLOCKED 192.0.2.0/24', 'create KUBE-ROUTER hash:ip'];
const SETS = FAMILIES.flatMap(ipvsSets);

function testVariant(variant: Variant): void {
  const tools = FAMILIES.map((family) => new TestTool(variant, family));
  t.test(`iptables-${variant}`, { skip: tools[0]!.missing || setsMissing() }, async (t) => {
    const saved = (): string[][] => tools.map((tool) => tool.saved());
    const foreign = (): string[][] => {
      for (const [i, tool] of tools.entries()) tool.restore(FOREIGN_RULES[FAMILIES[i]!]);
      ipset(`${FOREIGN_SETS.join('\n')}\n`, 'restore');
      tools[0]!.run('-A', 'OUTPUT', '-m', 'set', '--match-set', 'BLOCKED', 'dst', '-j', 'DROP');
      return saved();
    };
    const write = (): void => {
      ipset(`${SETS.join('\n')}\n`, 'restore');
      for (const [i, tool] of tools.entries()) tool.restore(ipvsRules(FAMILIES[i]!), '--noflush');
    };
    t.afterEach(async () => {
      for (const tool of tools) tool.clear();
      await removeProxyRules(null);
      destroySets(['BLOCKED', 'KUBE-ROUTER']);
    });

    t.test('everything goes, others’ things stay', async (t) => {
      const before = foreign();
      const sets = ipset('', 'save');
      write();
      t.match(await cleanup([], null), [
        new RegExp(`^IPv4 \\(iptables-${variant}\\): 9 jumps, 6 chains of table filter, 5 chains of table nat$`),
        new RegExp(`^IPv6 \\(iptables-${variant}\\): 9 jumps, `),
        '34 ipsets',
      ]);
      t.strictSame(saved(), before);
      t.equal(ipset('', 'save'), sets);
      t.strictSame(await cleanup([], null), [], 'a second time');
    });

    t.test('the iptables mode stays', async (t) => {
      foreign();
      write();
      const shared = saved();
      const gone = /KUBE-(NODE-PORT|LOAD-BALANCER|SOURCE-RANGES|IPVS)|kube-proxy firewall rules/;
      // Rules that lead to what goes, which the iptables mode has replaced when this happens.
      for (const tool of tools) {
        tool.run('-t', 'nat', '-F', 'KUBE-SERVICES');
        tool.run('-t', 'nat', '-D', 'KUBE-POSTROUTING', '1');
        tool.run('-F', 'KUBE-PROXY-FIREWALL');
      }
      const kept = shared.map((lines) =>
        lines.filter((l) => !gone.test(l) && !/^-A KUBE-(SERVICES|PROXY-FIREWALL) |LOOP-BACK/.test(l)),
      );
      t.match(await cleanup([], { mode: 'iptables', nodeIps: { IPv4: null, IPv6: null } }), [
        /^IPv4 .*: 5 jumps, 4 chains of table filter, 2 chains of table nat$/,
        /^IPv6 /,
        '34 ipsets',
      ]);
      t.strictSame(saved(), kept);
    });

    t.test('the ipvs mode stays: KUBE-FORWARD is its own', async (t) => {
      foreign();
      write();
      const forward = saved().map((lines) => lines.filter((line) => line.includes('KUBE-FORWARD')));
      t.match(await removeProxyRules('ipvs'), [/^IPv4 .*: 8 jumps, 5 chains/, /^IPv6 /, '34 ipsets']);
      const left = saved().map((lines) =>
        lines.filter((line) => /KUBE-(?!FIREWALL|IPTABLES|KUBELET|MARK-DROP)/.test(line)),
      );
      t.strictSame(left, forward);
    });

    t.test('a set that others use stays', async (t) => {
      write();
      tools[0]!.run('-A', 'OUTPUT', '-m', 'set', '--match-set', 'KUBE-CLUSTER-IP', 'dst,dst', '-j', 'ACCEPT');
      await t.rejects(removeProxyRules(null), { message: 'ipset KUBE-CLUSTER-IP stays: it is in use' });
      t.equal(ipset('', 'list', '-n'), 'KUBE-CLUSTER-IP\n');
      t.strictSame(
        saved()
          .flat()
          .filter((line) => line.includes('KUBE-')).length,
        1,
      );
    });
  });
}

function testSources(): void {
  t.test('the node’s connections to Services have its own IP before the interface goes', async (t) => {
    const ip = (...args: string[]): string => {
      const { status, stdout, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
      if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr.trim()}`);
      return stdout;
    };
    ip('link', 'add', 'uplink', 'type', 'veth', 'peer', 'name', IPVS_DEVICE);
    ip('link', 'set', 'uplink', 'up');
    ip('addr', 'add', '192.0.2.2/24', 'dev', 'uplink');
    ip('addr', 'add', '10.96.0.10/32', 'dev', IPVS_DEVICE);
    const source = (): string => / src (\S+)/.exec(ip('route', 'get', '10.96.0.10'))?.[1] ?? '';
    t.equal(source(), '10.96.0.10');
    const seen = new Set<string>();
    const look = setInterval(() => ip('link').includes(IPVS_DEVICE) && seen.add(source()), 50);
    const removed = await cleanup([], { mode: 'nftables', nodeIps: { IPv4: '192.0.2.2', IPv6: null } });
    clearInterval(look);
    t.strictSame(removed, [`interface ${IPVS_DEVICE}`]);
    t.strictSame([...seen], ['192.0.2.2']);
    t.notOk(ip('route', 'show', 'table', 'local').includes('10.96.0.10'));
  });
}

if (inNamespace) {
  testSources();
  testVariant('nft');
  testVariant('legacy');
}
