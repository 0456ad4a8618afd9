// What nft prints for a table that holds every kind of chain and an element in every map: the same text that the
// backend renders itself, and the one recorded in test/golden. UPDATE_GOLDEN=1 records it anew.
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { NftablesBackend } from '../../../backends/nftables/backend.ts';
import { renderPlans } from '../../../backends/nftables/render.ts';
import type { FamilySettings, Frontend, NodeSettings, ServicePlan } from '../../../backends/service-plan.ts';
import { FAMILIES, type Family } from '../../../native/ip.ts';
import { normalised } from '../../support/nft-text.ts';
import { EventLog, enterNamespace, nft } from '../../support/own-namespace.ts';
import { endpoint, portPlan, SETTINGS, servicePlan } from '../../support/plans.ts';

const GOLDEN = new URL('../../golden/nftables-table.nft', import.meta.url);

/** A Service of every kind, so that every chain and every map is in use. */
function plansOf(family: Family): ServicePlan[] {
  const v4 = family === 'IPv4';
  const ip = (a: string, b: string): string => (v4 ? a : b);
  const pods = [
    endpoint(ip('10.128.4.30', 'fd00:10:128:4::1e'), 8080, true),
    endpoint(ip('10.128.7.40', 'fd00:10:128:7::28')),
  ];
  const frontends = (n: number): Frontend[] => [
    { kind: 'clusterIP', ip: ip(`10.96.10.${n}`, `fd00:10:96::${n}`), port: 80 },
    { kind: 'externalIP', ip: ip(`198.18.9.${n}`, `2001:db8:9::${n}`), port: 80 },
    { kind: 'loadBalancer', ip: ip(`198.18.0.${n}`, `2001:db8:18::${n}`), port: 80 },
    { kind: 'nodePort', ip: null, port: 30_000 + n },
  ];
  const sets = { cluster: pods, local: pods.slice(0, 1) };
  const ranges = v4
    ? ['203.0.113.0/25', '192.0.2.7/32', '198.51.100.1/32', '198.51.100.2/31']
    : ['2001:db8:113::/64', '2001:db8:7::7/128', '2001:db8:51::1/128', '2001:db8:51::2/127'];
  const [, onlyRemote] = pods;
  return [
    servicePlan('plain', [portPlan({ frontends: frontends(1), cluster: pods, sourceRanges: ranges })], family),
    servicePlan(
      'local',
      [portPlan({ frontends: frontends(2), ...sets, internalLocal: true, externalLocal: true, portName: 'http' })],
      family,
    ),
    servicePlan('sticky', [portPlan({ frontends: frontends(3), cluster: pods, affinitySeconds: 10_800 })], family),
    servicePlan(
      'sticky-local',
      [
        portPlan({
          frontends: frontends(4),
          ...sets,
          internalLocal: true,
          externalLocal: true,
          affinitySeconds: 100,
          protocol: 'UDP',
        }),
      ],
      family,
    ),
    servicePlan('empty', [portPlan({ frontends: frontends(5), protocol: 'SCTP' })], family),
    servicePlan('remote', [portPlan({ frontends: frontends(6), cluster: [onlyRemote!], externalLocal: true })], family),
    servicePlan('draining', [portPlan({ frontends: frontends(7), hasEndpoints: true, internalLocal: true })], family),
  ];
}

const PLANS = FAMILIES.flatMap(plansOf);

const both = (change: (family: Family) => Partial<FamilySettings>): NodeSettings['families'] =>
  Object.fromEntries(FAMILIES.map((family) => [family, { ...SETTINGS.families[family]!, ...change(family) }]));
const VARIANTS: readonly [string, NodeSettings][] = [
  ['pods by interface', { ...SETTINGS, families: both(() => ({ detectLocal: { by: 'interface', name: 'cni0' } })) }],
  [
    'pods by prefix of the interface',
    { ...SETTINGS, families: both(() => ({ detectLocal: { by: 'interfacePrefix', prefix: 'veth' } })) },
  ],
  ['no detector', { ...SETTINGS, families: both(() => ({ detectLocal: null })) }],
  ['masquerade all, another bit', { ...SETTINGS, masqueradeAll: true, masqueradeBit: 31 }],
  ['node ports everywhere', { ...SETTINGS, families: both(() => ({ nodePortAddresses: 'all' })) }],
  [
    'single addresses as CIDRs',
    {
      ...SETTINGS,
      masqueradeBit: 0,
      families: both((family) => ({
        detectLocal: { by: 'cidr', cidr: family === 'IPv4' ? '10.128.4.9/32' : 'fd00::9/128' },
        serviceCidrs: family === 'IPv4' ? ['10.96.0.1/32', '10.97.0.0/16'] : ['fd00:10:96::1/128', 'fd00:97::/112'],
      })),
    },
  ],
];

const listing = (): string => ['ip', 'ip6'].map((family) => nft('list', 'table', family, 'kubeplumb')).join('\n');

const kernel = await enterNamespace(t);

t.test('the recorded text', async (t) => {
  const text = renderPlans(SETTINGS, PLANS);
  if (process.env.UPDATE_GOLDEN) writeFileSync(GOLDEN, text);
  t.equal(text, readFileSync(GOLDEN, 'utf8'));
  for (const prefix of ['lb', 'mq', 'll', 'np-lb', 'np-mq', 'np-ll']) {
    t.match(text, new RegExp(`chain ${prefix}-1 `));
    t.match(text, new RegExp(`goto ${prefix}-sa\\d+-[12]\\n?`), `${prefix} with affinity`);
  }
  const empty = normalised(text).flatMap((line, i, all) =>
    /^(set|map) /.test(line) && !all.slice(i, all.indexOf('}', i)).some((l) => l.startsWith('element')) ? [line] : [],
  );
  t.same(empty, ['map affinity {', 'map affinity {'], 'an element in every set but the one packets write');
});

if (kernel) {
  const start = async (settings: NodeSettings): Promise<string> => {
    const backend = new NftablesBackend({ events: new EventLog(), pollMs: 3_600_000 });
    try {
      await backend.start(settings, PLANS);
      return listing();
    } finally {
      await backend.cleanup();
      await backend.close();
    }
  };

  t.test('nft prints it', async (t) => {
    const text = await start(SETTINGS);
    t.notMatch(text, /invalid|unknown/);
    t.same(normalised(text), normalised(readFileSync(GOLDEN, 'utf8')));
  });

  for (const [name, settings] of VARIANTS) {
    t.test(name, async (t) => {
      const text = await start(settings);
      t.notMatch(text, /invalid|unknown/);
      t.same(normalised(text), normalised(renderPlans(settings, PLANS)));
    });
  }

  t.test('client memory', async (t) => {
    const backend = new NftablesBackend({ events: new EventLog(), pollMs: 3_600_000 });
    await backend.start(SETTINGS, PLANS);
    nft('add', 'element', 'ip', 'kubeplumb', 'affinity', '{ 8000:2000 . 10.0.0.1 timeout 1h : 8000:2001 }');
    t.match(nft('list', 'map', 'ip', 'kubeplumb', 'affinity'), /8000:2000 \. 10\.0\.0\.1 timeout 1h.* : 8000:2001/);
    await backend.cleanup();
    await backend.close();
  });
}
