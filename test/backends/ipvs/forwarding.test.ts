// KUBE-FORWARD is in a variant and family of iptables exactly while the policy of FORWARD is DROP; what cannot be helped
// is told.
import t from 'tap';
import { removeProxyRules } from '../../../backends/iptables/cleanup.ts';
import { type RunTool, ToolMissing, type Variant } from '../../../backends/iptables/run-tool.ts';
import { legacyTables } from '../../../backends/iptables/tool-rules.ts';
import { FORWARD_DROPPED, Forwarding, type ForwardingOptions } from '../../../backends/ipvs/forwarding.ts';
import type { FamilySettings, NodeSettings } from '../../../backends/service-plan.ts';
import { FAMILIES } from '../../../native/ip.ts';
import { FOREIGN_RULES } from '../../fixtures/foreign-iptables.ts';
import { TestTool } from '../../support/iptables-variant.ts';
import { EventLog, enterNamespace, nft } from '../../support/own-namespace.ts';

// First of all: an ordinary user's run begins anew in a user namespace.
const inNamespace = await enterNamespace(t);

const family: FamilySettings = {
  detectLocal: null,
  nodePortAddresses: 'all',
  localhostNodePorts: false,
  hostAddresses: [],
  serviceCidrs: [],
};
const settings = (masqueradeBit = 14): NodeSettings => ({
  masqueradeAll: false,
  masqueradeBit,
  dropInvalid: true,
  families: { IPv4: family, IPv6: family },
});

/** Conditions as they were told one after another. */
class Told extends EventLog {
  readonly told: (string | null)[] = [];

  override condition(name: string, message: string | null): void {
    super.condition(name, message);
    this.told.push(message);
  }
}

function forwarding(t: { teardown: (act: () => void) => unknown }, options: Partial<ForwardingOptions> = {}) {
  const events = new Told();
  const made = new Forwarding({ events, ...options });
  t.teardown(() => made.close());
  return { events, converge: (s: NodeSettings = settings()) => made.converge(s) };
}

const JUMP = '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD';
const chain = (mark: string): string[] => [
  `-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark ${mark}/${mark} -j ACCEPT`,
  '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
];

function testVariant(variant: Variant): void {
  const tools = FAMILIES.map((f) => new TestTool(variant, f));
  t.test(`iptables-${variant}`, { skip: tools[0]!.missing }, async (t) => {
    t.afterEach(() => {
      for (const tool of tools) tool.clear();
    });
    const saved = (): string[][] => tools.map((tool) => tool.saved());
    const forward = (at = 0): string[] => tools[at]!.saved('filter').filter((line) => line.includes('KUBE-FORWARD'));

    t.test('nothing is written where nothing drops', async (t) => {
      const { events, converge } = forwarding(t);
      const legacy = FAMILIES.flatMap(legacyTables);
      t.equal(await converge(), null);
      t.strictSame(FAMILIES.flatMap(legacyTables), legacy, 'no legacy table is created');
      for (const tool of tools)
        tool.run('-A', 'FORWARD', '-s', tool === tools[0] ? '192.0.2.7' : '2001:db8::7', '-j', 'DROP');
      const before = saved();
      t.equal(await converge(), null);
      t.strictSame(saved(), before);
      t.strictSame(events.told, []);
    });

    t.test('policy DROP', async (t) => {
      for (const [i, tool] of tools.entries()) tool.restore(FOREIGN_RULES[FAMILIES[i]!]);
      const before = saved();
      const { events, converge } = forwarding(t);
      t.match(await converge(), `IPv4 (iptables-${variant}): KUBE-FORWARD was not there as it should be; IPv6 `);
      for (const i of FAMILIES.keys()) {
        t.strictSame(forward(i), [':KUBE-FORWARD -', JUMP, ...chain('0x4000')]);
        t.equal(
          tools[i]!.saved('filter').find((line) => line.startsWith('-A FORWARD')),
          JUMP,
          'at the top',
        );
      }
      const written = saved();
      t.equal(await converge(), null, 'nothing to do');
      t.strictSame(saved(), written);

      tools[0]!.run('-D', 'FORWARD', '1');
      tools[1]!.run('-F', 'KUBE-FORWARD');
      t.match(await converge(), /IPv4 .*; IPv6 /);
      t.strictSame(saved(), written, 'repaired');
      t.match(await converge(settings(10)), /IPv4 .*; IPv6 /);
      t.strictSame(forward().slice(2), chain('0x400'), 'another mark');

      await removeProxyRules('ipvs');
      t.strictSame(forward().slice(2), chain('0x400'), 'it stays in ipvs mode');
      for (const tool of tools) tool.run('-P', 'FORWARD', 'ACCEPT');
      t.match(await converge(), /1 jump, 1 chain of table filter removed/);
      t.strictSame(forward(), []);
      for (const tool of tools) tool.run('-P', 'FORWARD', 'DROP');
      await converge();
      t.equal((await removeProxyRules(null)).length, 2);
      t.strictSame(saved(), before, 'cleaned up');
      t.strictSame(events.told, []);
    });

    t.test('as the iptables mode has it', async (t) => {
      tools[0]!.run('-P', 'FORWARD', 'DROP');
      tools[0]!.run('-N', 'KUBE-FORWARD');
      tools[0]!.run('-A', 'KUBE-FORWARD', '-m', 'conntrack', '--ctstate', 'INVALID', '-j', 'DROP');
      tools[0]!.run('-A', 'FORWARD', '-m', 'comment', '--comment', 'kubernetes forwarding rules', '-j', 'KUBE-FORWARD');
      const { converge } = forwarding(t);
      t.match(await converge(), 'IPv4');
      t.strictSame(forward(), [':KUBE-FORWARD -', JUMP, ...chain('0x4000')], 'without the rule for INVALID');
    });
  });
}

if (inNamespace) {
  testVariant('nft');
  testVariant('legacy');

  t.test('a foreign chain of nftables', async (t) => {
    const { events, converge } = forwarding(t);
    t.teardown(() => nft('flush', 'ruleset'));
    nft('add table inet guard; add chain inet guard passing { type filter hook forward priority 10; policy drop; }');
    nft('add table ip6 other; add chain ip6 other entry { type filter hook input priority 0; policy drop; }');
    nft('add table bridge b; add chain bridge b passing { type filter hook forward priority 0; policy drop; }');
    t.equal(await converge(), null);
    await converge();
    const message = /^nftables chain inet guard passing has hook forward and policy drop: [^;]*$/;
    t.equal(events.told.length, 1, 'told once');
    t.match(events.conditions.get(FORWARD_DROPPED), message);
    nft('add chain inet guard passing { policy accept; }');
    await converge();
    t.equal(events.conditions.get(FORWARD_DROPPED), null, 'it has ended');
  });

  t.test('no legacy tool', async (t) => {
    const run: RunTool = async ({ program }) => {
      throw new ToolMissing(program, null);
    };
    const { events, converge } = forwarding(t, { run, legacyTables: (f) => (f === 'IPv4' ? ['filter'] : ['nat']) });
    t.equal(await converge(), null);
    t.match(
      events.conditions.get(FORWARD_DROPPED),
      /^IPv4: .*no program "iptables-legacy" .*install the program[^;]*$/,
    );
  });

  t.test('a tool that refuses', async (t) => {
    const run: RunTool = async ({ program, args, line }) => {
      if (args.includes('--version')) line?.('iptables v1.8.9 (legacy)');
      else if (args.includes('-S')) line?.('-P FORWARD DROP');
      else if (program.endsWith('-restore')) return { status: 2, stderr: 'Couldn’t load match `conntrack’' };
      return { status: 0, stderr: '' };
    };
    const { events, converge } = forwarding(t, { run, legacyTables: (f) => (f === 'IPv4' ? ['filter'] : []) });
    t.equal(await converge(), null);
    t.match(
      events.conditions.get(FORWARD_DROPPED),
      /^IPv4 \(iptables-legacy\): FORWARD has policy DROP, and KUBE-FORWARD cannot be written \(.*Couldn’t load/,
    );
  });
}
