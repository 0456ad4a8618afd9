// Which variant a node uses: the decision, and what is found on real tables of both variants.
import t from 'tap';
import {
  type Detection,
  decideVariant,
  detectVariant,
  forcedBy,
  type Signs,
} from '../../../backends/iptables/detect.ts';
import { type RunTool, ToolMissing, toolRunner } from '../../../backends/iptables/run-tool.ts';
import { legacyTables } from '../../../backends/iptables/tool-rules.ts';
import { FAMILIES } from '../../../native/ip.ts';
import { NetlinkError } from '../../../native/netlink/error.ts';
import { NftConnection } from '../../../native/nftables/connection.ts';
import { FOREIGN_RULES } from '../../fixtures/foreign-iptables.ts';
import { TestTool } from '../../support/iptables-variant.ts';
import { enterNamespace } from '../../support/own-namespace.ts';

const nothing: Signs = { hints: [], services: false, foreign: false, used: false, blind: null };
const signs = (fields: Partial<Signs>): Signs => ({ ...nothing, used: true, ...fields });
const hint = signs({ hints: ['IPv4 KUBE-KUBELET-CANARY'] });

// First of all: an ordinary user's run begins anew in a user namespace.
const inNamespace = await enterNamespace(t);

t.test('decision', async (t) => {
  const cases: [name: string, nft: Signs, legacy: Signs, expected: Partial<Detection>][] = [
    ['an empty host', nothing, nothing, { variant: 'nft', reason: 'the default', mix: null, leftovers: false }],
    ['the kubelet uses nft', hint, nothing, { variant: 'nft', mix: null }],
    ['the kubelet uses legacy', nothing, hint, { variant: 'legacy', mix: null }],
    ['the kubelet uses legacy, others nft', signs({ foreign: true }), hint, { variant: 'legacy', mix: null }],
    ['the kubelet uses nft, others legacy', hint, signs({ foreign: true }), { variant: 'nft', mix: null }],
    ['rules in legacy alone', nothing, signs({ foreign: true }), { variant: 'legacy', mix: null }],
    ['a proxy in legacy alone', nothing, signs({ services: true }), { variant: 'legacy', leftovers: false }],
    ['rules in nft', signs({ foreign: true }), nothing, { variant: 'nft', mix: null }],
    ['rules of others in both', signs({ foreign: true }), signs({ foreign: true }), { variant: 'nft', mix: null }],
    ['leftovers of a proxy in legacy', hint, signs({ services: true }), { variant: 'nft', mix: null, leftovers: true }],
    ['leftovers of a proxy in nft', signs({ services: true }), hint, { variant: 'legacy', mix: null, leftovers: true }],
    ['legacy empty tables', nothing, { ...nothing }, { variant: 'nft' }],
    ['no nf_tables', { ...nothing, blind: 'the kernel has no nf_tables' }, nothing, { variant: 'legacy' }],
    [
      'no tool for legacy',
      nothing,
      { ...nothing, blind: 'no program' },
      { variant: 'nft', reason: 'the default; no program' },
    ],
  ];
  for (const [name, nft, legacy, expected] of cases) t.match(decideVariant({ nft, legacy }), expected, name);
});

t.test('mix', async (t) => {
  t.match(decideVariant({ nft: hint, legacy: hint }), {
    variant: 'nft',
    mix: /^both variants .* legacy has hints of the kubelet \(IPv4 KUBE-KUBELET-CANARY; see iptables-legacy-save -t mangle\)$/,
  });
  const both = signs({ services: true, foreign: true });
  t.match(decideVariant({ nft: hint, legacy: both }), {
    variant: 'nft',
    mix: /KUBE-SERVICES beside rules of others \(see iptables-legacy-save and ip6tables-legacy-save\)$/,
    leftovers: true,
  });
  t.match(decideVariant({ nft: both, legacy: hint }), { variant: 'legacy', mix: /iptables-nft-save/ });
  t.match(decideVariant({ nft: hint, legacy: both }, 'legacy'), {
    variant: 'legacy',
    reason: 'as configured',
    mix: null,
  });
  t.match(decideVariant({ nft: both, legacy: hint }, 'legacy'), { leftovers: true });
});

t.test('forced by the environment', async (t) => {
  t.strictSame(forcedBy({}), { variant: null, writer: null });
  t.strictSame(forcedBy({ KUBEPLUMB_IPTABLES_VARIANT: '', KUBEPLUMB_IPTABLES_WRITER: 'tool' }), {
    variant: null,
    writer: 'tool',
  });
  t.strictSame(forcedBy({ KUBEPLUMB_IPTABLES_VARIANT: 'legacy' }), { variant: 'legacy', writer: null });
  t.throws(
    () => forcedBy({ KUBEPLUMB_IPTABLES_VARIANT: 'nftables' }),
    /^KUBEPLUMB_IPTABLES_VARIANT: "nftables" is none of/,
  );
  t.throws(() => forcedBy({ KUBEPLUMB_IPTABLES_WRITER: 'x' }), /^KUBEPLUMB_IPTABLES_WRITER: /);
  t.throws(() => forcedBy({ KUBEPLUMB_IPTABLES_VARIANT: 'legacy', KUBEPLUMB_IPTABLES_WRITER: 'netlink' }), /legacy/);
});

t.test('a kernel without nf_tables', async (t) => {
  const failing = (errno: number) =>
    ({
      eachChain: async () => {
        throw new NetlinkError('list chains', errno);
      },
    }) as unknown as NftConnection;
  const options = { legacyTables: () => [] };
  t.match(await detectVariant({ ...options, nft: failing(22) }), { variant: 'legacy', reason: /no nf_tables/ });
  await t.rejects(detectVariant({ ...options, nft: failing(1) }), /EPERM/);
});

if (inNamespace) {
  const nft = new NftConnection();
  t.teardown(() => nft.close());
  const tools = {
    nft: FAMILIES.map((family) => new TestTool('nft', family)),
    legacy: FAMILIES.map((family) => new TestTool('legacy', family)),
  };
  const skip = tools.nft[0]!.missing || tools.legacy[0]!.missing;
  t.test('in the kernel', { skip }, async (t) => {
    const emptyNft = async (): Promise<void> => {
      const batch = nft.batch('');
      for (const { family, name } of nft.tables()) batch.deleteTable(family, name);
      await nft.commit(batch);
    };

    t.test('nothing is there, and nothing is made', async (t) => {
      t.match(await detectVariant({ nft }), { variant: 'nft', reason: 'the default', mix: null, leftovers: false });
      t.strictSame(FAMILIES.flatMap(legacyTables), []);
      t.strictSame(nft.tables(), []);
    });

    t.test('nft', async (t) => {
      tools.nft[0]!.restore('*filter\n-A FORWARD -i docker0 -j ACCEPT\nCOMMIT\n');
      t.match(await detectVariant({ nft }), { variant: 'nft', reason: 'there are rules in its tables' });
      for (const [i, family] of FAMILIES.entries()) tools.nft[i]!.restore(FOREIGN_RULES[family]);
      t.match(await detectVariant({ nft }), {
        variant: 'nft',
        reason:
          'the kubelet uses it: IPv4 KUBE-IPTABLES-HINT, IPv4 KUBE-KUBELET-CANARY, IPv6 KUBE-KUBELET-CANARY in table mangle',
        mix: null,
        leftovers: false,
      });
    });

    t.test('legacy', async (t) => {
      await emptyNft();
      tools.legacy[0]!.run('-t', 'nat', '-N', 'OTHER');
      t.match(await detectVariant({ nft }), { variant: 'legacy', reason: 'there are rules in legacy tables only' });
      tools.nft[0]!.run('-A', 'INPUT', '-i', 'lo', '-j', 'ACCEPT');
      t.match(await detectVariant({ nft }), { variant: 'nft', reason: 'there are rules in its tables', mix: null });
      t.strictSame(legacyTables('IPv4'), ['nat'], 'no table is made');
      tools.legacy[1]!.run('-t', 'mangle', '-N', 'KUBE-KUBELET-CANARY');
      t.match(await detectVariant({ nft }), { variant: 'legacy', reason: /IPv6 KUBE-KUBELET-CANARY/, mix: null });
      t.match(await detectVariant({ nft, families: ['IPv4'] }), { variant: 'nft' });
    });

    t.test('both', async (t) => {
      tools.nft[0]!.run('-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT');
      t.match(await detectVariant({ nft }), { variant: 'nft', mix: /IPv6 KUBE-KUBELET-CANARY/ });
      t.match(await detectVariant({ nft, forced: 'legacy' }), { variant: 'legacy', mix: null });
      tools.legacy[1]!.run('-t', 'mangle', '-X', 'KUBE-KUBELET-CANARY');
      t.match(await detectVariant({ nft }), { variant: 'nft', mix: null, leftovers: false });
      tools.legacy[0]!.restore(`*nat
:KUBE-SERVICES - [0:0]
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
COMMIT
`);
      t.match(await detectVariant({ nft }), { mix: null, leftovers: true }, 'a proxy alone in legacy');
      tools.legacy[0]!.run('-t', 'nat', '-A', 'POSTROUTING', '-s', '172.17.0.0/16', '-j', 'MASQUERADE');
      t.match(await detectVariant({ nft }), { mix: /KUBE-SERVICES beside rules of others/, leftovers: true });
    });

    t.test('no tool for legacy tables; one without a suffix', async (t) => {
      await emptyNft();
      const without: RunTool = async ({ program }) => {
        throw new ToolMissing(program, null);
      };
      t.match(await detectVariant({ nft, run: without, families: ['IPv4'] }), {
        variant: 'nft',
        reason: 'the default; there are legacy tables, but no program "iptables-legacy" to look into them',
      });
      const run = toolRunner();
      const unnamed: RunTool = (what) => {
        if (what.args[0] !== '--version')
          return run({ ...what, program: what.program.replace('-save', '-legacy-save') });
        if (what.program.includes('legacy')) throw new ToolMissing(what.program, null);
        what.line?.('iptables v1.6.2');
        return Promise.resolve({ status: 0, stderr: '' });
      };
      t.match(await detectVariant({ nft, run: unnamed }), { variant: 'legacy' });
    });
  });
}
