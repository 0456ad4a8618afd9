// Which elements a ServicePort needs, for every policy; limits.
import t from 'tap';
import { mergeRanges } from '../../../backends/nft-table/keys.ts';
import { elementText } from '../../../backends/nft-table/text.ts';
import { ActionWords, MAX_ENDPOINTS, parseChainName } from '../../../backends/nftables/actions.ts';
import type { Elements } from '../../../backends/nftables/changes.ts';
import { desiredTable } from '../../../backends/nftables/desired.ts';
import { renderService } from '../../../backends/nftables/elements.ts';
import { tablesOf } from '../../../backends/nftables/render.ts';
import { LAYOUT, SET_NAMES } from '../../../backends/nftables/schema.ts';
import type { Frontend, ServicePlan, ServicePortPlan } from '../../../backends/service-plan.ts';
import { ipBytes, ipText } from '../../../native/ip.ts';
import { endpoint, endpoints, portPlan, SETTINGS, servicePlan } from '../../support/plans.ts';
import { RulesetSimulator } from '../../support/ruleset-simulator.ts';

const STANDING = new Set(['actions', 'local-actions', 'nodeport-ips']);
const POD = endpoint('10.128.4.7', 8080, true);
const FAR = endpoint('10.128.7.7');
const CLUSTER_IP: Frontend = { kind: 'clusterIP', ip: '10.96.0.1', port: 80 };
const EXTERNAL_IP: Frontend = { kind: 'externalIP', ip: '198.18.9.5', port: 80 };
const VIP: Frontend = { kind: 'loadBalancer', ip: '198.18.0.10', port: 80 };
const NODE_PORT: Frontend = { kind: 'nodePort', ip: null, port: 30080 };

function elementsOf(...plans: ServicePlan[]): Elements {
  const [table] = tablesOf(SETTINGS, plans);
  return desiredTable(SETTINGS, table!).elements;
}

/** `set: element` of everything Services need. */
function lines(port: Partial<ServicePortPlan>): string[] {
  const elements = elementsOf(servicePlan('web', [portPlan(port)]));
  return SET_NAMES.filter((set) => !STANDING.has(set))
    .flatMap((set) =>
      [...(elements.get(set)?.values() ?? [])].map((e) => `${set}: ${elementText(LAYOUT.shapes[set], e, 'IPv4')}`),
    )
    .sort();
}

t.test('a cluster IP', async (t) => {
  t.same(lines({ cluster: [POD, FAR] }), [
    'cluster-ips: 10.96.0.1',
    'endpoints: 10.96.0.1 . tcp . 80 . 0 : 10.128.4.7 . 8080',
    'endpoints: 10.96.0.1 . tcp . 80 . 1 : 10.128.7.7 . 8080',
    'hairpin: 10.128.4.7 . 10.128.4.7 . tcp . 8080',
    'services: 10.96.0.1 . tcp . 80 comment "shop/web" : 8001:2',
  ]);
});

t.test('a cluster IP with internalTrafficPolicy Local', async (t) => {
  t.same(lines({ cluster: [POD, FAR], local: [POD], internalLocal: true, portName: 'http' }), [
    'cluster-ips: 10.96.0.1',
    'hairpin: 10.128.4.7 . 10.128.4.7 . tcp . 8080',
    'local-endpoints: 10.96.0.1 . tcp . 80 . 0 : 10.128.4.7 . 8080',
    'services: 10.96.0.1 . tcp . 80 comment "shop/web:http" : 8003:1',
  ]);
});

t.test('no endpoints at all (S-30), none that applies (S-31)', async (t) => {
  t.same(lines({}), ['cluster-ips: 10.96.0.1', 'no-endpoints-reject: 10.96.0.1 . tcp . 80 comment "shop/web"']);
  t.same(lines({ internalLocal: true, hasEndpoints: true }), [
    'cluster-ips: 10.96.0.1',
    'no-endpoints-drop: 10.96.0.1 . tcp . 80 comment "shop/web"',
  ]);
});

t.test('external frontends, policy Cluster', async (t) => {
  t.same(lines({ frontends: [EXTERNAL_IP, VIP, NODE_PORT], cluster: [FAR], protocol: 'UDP' }), [
    'endpoints: 0.0.0.0 . udp . 30080 . 0 : 10.128.7.7 . 8080',
    'endpoints: 198.18.0.10 . udp . 80 . 0 : 10.128.7.7 . 8080',
    'endpoints: 198.18.9.5 . udp . 80 . 0 : 10.128.7.7 . 8080',
    'nodeports: 0.0.0.0 . udp . 30080 comment "shop/web" : 8006:1',
    'services: 198.18.0.10 . udp . 80 comment "shop/web" : 8002:1',
    'services: 198.18.9.5 . udp . 80 comment "shop/web" : 8002:1',
  ]);
});

t.test('external frontends, policy Local', async (t) => {
  t.same(lines({ frontends: [VIP, NODE_PORT], cluster: [POD, FAR], local: [POD], externalLocal: true }), [
    'endpoints: 0.0.0.0 . tcp . 30080 . 0 : 10.128.4.7 . 8080',
    'endpoints: 0.0.0.0 . tcp . 30080 . 1 : 10.128.7.7 . 8080',
    'endpoints: 198.18.0.10 . tcp . 80 . 0 : 10.128.4.7 . 8080',
    'endpoints: 198.18.0.10 . tcp . 80 . 1 : 10.128.7.7 . 8080',
    'hairpin: 10.128.4.7 . 10.128.4.7 . tcp . 8080',
    'local-endpoints: 0.0.0.0 . tcp . 30080 . 0 : 10.128.4.7 . 8080',
    'local-endpoints: 198.18.0.10 . tcp . 80 . 0 : 10.128.4.7 . 8080',
    'local-only: 0.0.0.0 . tcp . 30080 : 8007:1',
    'local-only: 198.18.0.10 . tcp . 80 : 8003:1',
    'nodeports: 0.0.0.0 . tcp . 30080 comment "shop/web" : 8011:0',
    'services: 198.18.0.10 . tcp . 80 comment "shop/web" : 8010:0',
    'short-circuit: 0.0.0.0 . tcp . 30080 : 8005:2',
    'short-circuit: 198.18.0.10 . tcp . 80 : 8001:2',
  ]);
});

t.test('policy Local without a local endpoint (S-32)', async (t) => {
  t.same(lines({ frontends: [VIP], cluster: [FAR], externalLocal: true }), [
    'endpoints: 198.18.0.10 . tcp . 80 . 0 : 10.128.7.7 . 8080',
    'no-endpoints-drop: 198.18.0.10 . tcp . 80 comment "shop/web"',
    'services: 198.18.0.10 . tcp . 80 comment "shop/web" : 8010:0',
    'short-circuit: 198.18.0.10 . tcp . 80 : 8001:1',
  ]);
});

t.test('session affinity', async (t) => {
  t.same(lines({ cluster: [POD, FAR], affinitySeconds: 300 }), [
    'affinity-endpoints: 10.96.0.1 . tcp . 80 . 8000:2001 : 10.128.4.7 . 8080',
    'affinity-endpoints: 10.96.0.1 . tcp . 80 . 8000:2002 : 10.128.7.7 . 8080',
    'affinity-services: 10.96.0.1 . tcp . 80 : 8000:2000',
    'affinity-slots: 10.96.0.1 . tcp . 80 . 0 : 8000:2001',
    'affinity-slots: 10.96.0.1 . tcp . 80 . 1 : 8000:2002',
    'cluster-ips: 10.96.0.1',
    'hairpin: 10.128.4.7 . 10.128.4.7 . tcp . 8080',
    'services: 10.96.0.1 . tcp . 80 comment "shop/web" : 8100:2',
  ]);
});

t.test('source ranges: merged, with the VIPs when the node is among them (S-42)', async (t) => {
  const sourceRanges = ['203.0.113.0/25', '203.0.113.128/25', '192.0.2.11/32'];
  t.same(
    lines({ frontends: [VIP], cluster: [FAR], sourceRanges, sourcesIncludeNode: true }).filter((l) =>
      l.startsWith('source'),
    ),
    [
      'source-allowed: 198.18.0.10 . tcp . 80 . 192.0.2.11',
      'source-allowed: 198.18.0.10 . tcp . 80 . 198.18.0.10',
      'source-allowed: 198.18.0.10 . tcp . 80 . 203.0.113.0/24',
      'source-restricted: 198.18.0.10 . tcp . 80',
    ],
  );
});

t.test('an address that is several kinds of frontend', async (t) => {
  const same: Frontend = { kind: 'loadBalancer', ip: EXTERNAL_IP.ip, port: 80 };
  const found = lines({ frontends: [EXTERNAL_IP, same], cluster: [FAR], sourceRanges: ['203.0.113.0/24'] });
  t.same(found, [
    'endpoints: 198.18.9.5 . tcp . 80 . 0 : 10.128.7.7 . 8080',
    'services: 198.18.9.5 . tcp . 80 comment "shop/web" : 8002:1',
    'source-allowed: 198.18.9.5 . tcp . 80 . 203.0.113.0/24',
    'source-restricted: 198.18.9.5 . tcp . 80',
  ]);
});

t.test('merging ranges', async (t) => {
  const merge = (...ranges: string[]): string[] =>
    mergeRanges(
      ranges.map((text) => {
        const [low, high = low] = text.split('-');
        return { low: ipBytes(low!)!, high: ipBytes(high!)! };
      }),
    ).map(({ low, high }) => `${ipText(low)}-${ipText(high)}`);
  t.same(merge(), []);
  t.same(merge('10.0.0.5', '10.0.0.7'), ['10.0.0.5-10.0.0.5', '10.0.0.7-10.0.0.7'], 'apart');
  t.same(merge('10.0.0.6', '10.0.0.5'), ['10.0.0.5-10.0.0.6'], 'adjacent, in any order');
  t.same(merge('10.0.0.0-10.0.0.255', '10.0.0.9-10.0.0.10', '10.0.1.0'), ['10.0.0.0-10.0.1.0'], 'inside');
  t.same(merge('10.0.0.255', '10.0.1.0'), ['10.0.0.255-10.0.1.0'], 'across a byte');
  t.same(merge('0.0.0.0-255.255.255.255', '255.255.255.255'), ['0.0.0.0-255.255.255.255'], 'everything');
  t.same(merge('fd00::ffff', 'fd00::1:0'), ['fd00::ffff-fd00::1:0'], 'IPv6');
});

t.test('more endpoints than a word can count', async (t) => {
  const all = endpoints(MAX_ENDPOINTS + 10);
  const elements = elementsOf(servicePlan('web', [portPlan({ cluster: all })]));
  t.equal(elements.get('endpoints')!.size, MAX_ENDPOINTS);
  t.match(
    [...elements.get('services')!.values()].map((e) => elementText(LAYOUT.shapes.services, e, 'IPv4')),
    ['10.96.0.1 . tcp . 80 comment "shop/web" : 8001:ffff'],
  );
  t.ok([...elements.get('actions')!.values()].some((e) => e.data === `lb-${MAX_ENDPOINTS}`));
});

t.test('more endpoints than session affinity can number', async (t) => {
  const table = desiredTable(
    SETTINGS,
    tablesOf(SETTINGS, [servicePlan('web', [portPlan({ cluster: endpoints(8200), affinitySeconds: 300 })])])[0]!,
  );
  t.equal(table.elements.get('affinity-endpoints')!.size, 8191);
  const simulator = new RulesetSimulator({ tables: [table], localAddresses: [] });
  const packet = { source: '203.0.113.50', destination: '10.96.0.1', protocol: 'TCP', port: 80 } as const;
  const chances = new Map<string | null, number>();
  for (const { endpoint: key, probability } of simulator.outcomes({ ...packet, interface: 'eth0' })) {
    chances.set(key, (chances.get(key) ?? 0) + probability);
  }
  t.equal(chances.size, 8191);
  t.ok(
    [...chances.values()].every((chance) => Math.abs(chance - 1 / 8191) < 1e-9),
    'no endpoint is preferred',
  );
});

t.test('every emitted word leads to a chain that exists', async (t) => {
  const port = portPlan({ frontends: [CLUSTER_IP, VIP, NODE_PORT], cluster: endpoints(20), affinitySeconds: 42 });
  const table = tablesOf(SETTINGS, [servicePlan('web', [port])])[0]!;
  const desired = desiredTable(SETTINGS, table);
  for (const map of ['services', 'nodeports'] as const) {
    for (const { data } of desired.elements.get(map)!.values()) {
      const chain = desired.elements.get('actions')!.get(data!)?.data;
      t.ok(chain !== undefined && desired.chains.has(chain), String(chain));
      t.same(parseChainName(chain!)?.affinitySeconds, 42);
    }
  }
  const words = new ActionWords();
  words.reserve(42);
  const sets = new Set<string>();
  for (const state of table.services.values()) renderService(state, words, (set) => sets.add(set));
  t.ok(sets.has('affinity-slots'));
});
