// Settings of the wrong IP family (P-21, P-22).
import t from 'tap';
import { type FamilyWarningsOptions, familyWarnings } from '../../agent/config/family-warnings.ts';
import { loadConfig } from '../../agent/config/load.ts';
import type { Config } from '../../agent/config/types.ts';

function config(...argv: string[]): Config {
  const loaded = loadConfig({ argv, readFile: () => '' });
  if (loaded.action !== 'run') throw new Error(loaded.action);
  return loaded.config;
}

const DUAL = ['IPv4', 'IPv6'] as const;
const ONLY4 = ['IPv4'] as const;
const V4 = '10.244.0.0/16';
const V6 = 'fd00:10::/48';
const P4 = '192.0.2.11/32';
const P6 = '2001:db8::11/128';

type Given = Partial<Omit<FamilyWarningsOptions, 'config'>>;

const CASES: readonly [name: string, argv: string[], given: Given, warnings: RegExp[], fatal: RegExp[]][] = [
  ['all as it should be', [`--cluster-cidr=${V4},${V6}`], { nodePortCidrs: [P4, P6] }, [], []],
  ['node ports not limited', [], { nodePortCidrs: [] }, [/^nodePortAddresses: not set, .* all addresses/], []],
  [
    'node ports of one family in a dual-stack cluster',
    [`--cluster-cidr=${V4},${V6}`],
    {},
    [/^nodePortAddresses: 192\.0\.2\.11\/32 has no IPv6 CIDR, .* all IPv6 addresses/],
    [],
  ],
  ['in a cluster of one family', [`--cluster-cidr=${V4}`], {}, [], []],
  ['pod CIDRs tell dual stack as well', [], { podCidrs: [V4, V6] }, [/has no IPv6 CIDR/], []],
  ['exclude CIDRs too', [`--ipvs-exclude-cidrs=${V4},${V6}`], {}, [/has no IPv6 CIDR/], []],
  [
    'node ports lack the primary family',
    [],
    { nodePortCidrs: [P6] },
    [/2001:db8::11\/128 has no IPv4 CIDR, .* all IPv4 addresses/],
    [],
  ],
  ['cluster CIDR, two families', [`--cluster-cidr=${V6}`], {}, [/^clusterCIDR: .* only IPv6 .* IPv4 first/], []],
  [
    'cluster CIDR, one family',
    [`--cluster-cidr=${V6}`],
    { families: ONLY4 },
    [],
    [/^clusterCIDR: fd00:10::\/48 has only IPv6 CIDRs, but this node is IPv4 only/],
  ],
  [
    'cluster CIDR that is not used',
    [`--cluster-cidr=${V6}`, '--detect-local-mode=NodeCIDR'],
    { families: ONLY4 },
    [/^clusterCIDR/],
    [],
  ],
  ['pod CIDRs that are not used', [], { podCidrs: [V6] }, [/^spec.podCIDRs of the Node/], []],
  ['pod CIDRs', ['--detect-local-mode=NodeCIDR'], { podCidrs: [V6] }, [], [/^spec.podCIDRs of the Node: fd00/]],
  ['exclude CIDRs, two families', [`--ipvs-exclude-cidrs=${V6}`], {}, [], []],
  ['exclude CIDRs, one', [`--ipvs-exclude-cidrs=${V6}`], { families: ONLY4 }, [/^ipvs.excludeCIDRs/], []],
  ['servers, two families', ['--healthz-bind-address=[2001:db8::1]:1'], {}, [], []],
  [
    'servers, one family',
    ['--healthz-bind-address=[2001:db8::1]:1', '--metrics-bind-address=[::1]:2'],
    { families: ONLY4 },
    [/^healthzBindAddress: \[2001:db8::1\]:1 is an IPv6 address/, /^metricsBindAddress/],
    [],
  ],
  ['unspecified addresses suit all', ['--healthz-bind-address=[::]:1'], { families: ONLY4 }, [], []],
];

t.test('what is said, and what is fatal', async (t) => {
  for (const [name, argv, given, warnings, fatal] of CASES) {
    const base = { primaryFamily: 'IPv4', families: DUAL, podCidrs: [], nodePortCidrs: [P4] } as const;
    const found = familyWarnings({ ...base, ...given, config: config(...argv) });
    t.match(found, { warnings, fatal }, name);
    t.strictSame([found.warnings.length, found.fatal.length], [warnings.length, fatal.length], name);
  }
});

t.test('on an IPv6 node all is the other way round', async (t) => {
  const found = familyWarnings({
    config: config(`--cluster-cidr=${V4}`),
    primaryFamily: 'IPv6',
    families: DUAL,
    podCidrs: [],
    nodePortCidrs: [P4],
  });
  t.match(found.warnings, [/has no IPv6 CIDR/, /^clusterCIDR: .* only IPv4 CIDRs, but this node is IPv6 first/]);
});
