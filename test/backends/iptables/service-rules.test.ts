// Rules of single Services in cases that the recorded sixty Services do not have.
import t from 'tap';
import { fixedChains, INVALID_COUNTER, nodePortJumps } from '../../../backends/iptables/fixed-rules.ts';
import { serviceChains } from '../../../backends/iptables/names.ts';
import type { Rule, Table } from '../../../backends/iptables/rule.ts';
import { ruleText } from '../../../backends/iptables/rule-text.ts';
import { isLargeCluster, tablesOf } from '../../../backends/iptables/ruleset.ts';
import { LOCALHOST_COUNTER, renderService } from '../../../backends/iptables/service-rules.ts';
import type { DetectLocal, Frontend, NodeSettings, ServicePortPlan } from '../../../backends/service-plan.ts';
import { endpoint, endpoints, portPlan, SETTINGS, servicePlan } from '../../support/plans.ts';

const CHAINS = serviceChains('shop/web', 'TCP');
const CLUSTER_IP: Frontend = { kind: 'clusterIP', ip: '10.96.0.1', port: 80 };
const NODE_PORT: Frontend = { kind: 'nodePort', ip: null, port: 30080 };

interface Given {
  readonly port?: Partial<ServicePortPlan>;
  readonly detectLocal?: DetectLocal | null;
  readonly settings?: Partial<NodeSettings>;
  readonly localhostNodePorts?: boolean;
  readonly nfacct?: readonly string[];
  readonly largeCluster?: boolean;
}

function settingsOf({ settings, detectLocal, localhostNodePorts }: Given): NodeSettings {
  const own = SETTINGS.families.IPv4!;
  const changed = {
    ...own,
    ...(detectLocal !== undefined && { detectLocal }),
    ...(localhostNodePorts !== undefined && { localhostNodePorts }),
  };
  return { ...SETTINGS, ...settings, families: { ...SETTINGS.families, IPv4: changed } };
}

/** Texts of the rules of Service `shop/web` in a chain; comments are left out, null = it has no such chain. */
function rules(given: Given, chain: string, table: Table = 'nat'): string[] | null {
  const plan = servicePlan('web', [portPlan({ cluster: [endpoint('10.128.0.1')], ...given.port })]);
  const { nfacct = [], largeCluster = false } = given;
  const { own, shared } = renderService(plan, { settings: settingsOf(given), nfacct, largeCluster });
  const part = shared.find((s) => s.table === table && s.chain === chain)?.rules ?? own.get(chain);
  return part === undefined ? null : part.map(text);
}

const text = (rule: Rule): string =>
  ruleText(rule, 'IPv4', 'save')
    .replace(/-m comment --comment "[^"]*" ?/g, '')
    .trim();

t.test('which packets to a cluster IP are masqueraded (I-15)', async (t) => {
  const cases: [string, Given, string | null][] = [
    ['none without a detector', { detectLocal: null }, null],
    ['all with masqueradeAll', { settings: { masqueradeAll: true } }, ''],
    ['all with masqueradeAll, without a detector', { settings: { masqueradeAll: true }, detectLocal: null }, ''],
    ['those of other interfaces', { detectLocal: { by: 'interface', name: 'cni0' } }, '! -i cni0'],
    ['those of interfaces of other names', { detectLocal: { by: 'interfacePrefix', prefix: 'cali' } }, '! -i cali+'],
    ['none when all addresses are pods', { detectLocal: { by: 'cidr', cidr: '0.0.0.0/0' } }, null],
  ];
  for (const [name, given, where] of cases) {
    const [first] = rules(given, CHAINS.cluster)!;
    if (where === null) t.notMatch(first, 'KUBE-MARK-MASQ', name);
    else {
      const options = ['-d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ'];
      // iptables-save puts addresses in front of interfaces.
      if (where !== '') options[0] = options[0]!.replace(' -p', ` ${where} -p`);
      t.equal(first, options[0], name);
    }
  }
});

t.test('no rule repeats a cluster IP that belongs to another ServicePort', async (t) => {
  const given: Given = { port: { frontends: [NODE_PORT] } };
  t.notMatch(rules(given, CHAINS.cluster)![0], 'KUBE-MARK-MASQ');
  t.equal(rules(given, 'KUBE-SERVICES'), null);
});

t.test('external chain with policy Local (I-17)', async (t) => {
  const port: Partial<ServicePortPlan> = { frontends: [CLUSTER_IP, NODE_PORT], externalLocal: true };
  const node = ['-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ', `-m addrtype --src-type LOCAL -j ${CHAINS.cluster}`];
  t.same(rules({ port, detectLocal: null }, CHAINS.external), node, 'without a detector');
  t.same(
    rules({ port, detectLocal: { by: 'interface', name: 'cni0' } }, CHAINS.external),
    [`-i cni0 -j ${CHAINS.cluster}`, ...node],
    'pods by interface',
  );
  t.same(
    rules({ port, detectLocal: { by: 'cidr', cidr: '0.0.0.0/0' } }, CHAINS.external),
    [`-j ${CHAINS.cluster}`, ...node],
    'all are pods',
  );
  t.equal(rules({ port: { ...port, frontends: [CLUSTER_IP] } }, CHAINS.external), null, 'nobody comes from outside');
});

t.test('loopback node ports are counted if there is a counter (I-14)', async (t) => {
  const port = { frontends: [CLUSTER_IP, NODE_PORT] };
  const plain = `-p tcp -m tcp --dport 30080 -j ${CHAINS.external}`;
  const counted = plain.replace(' -j', ` -m nfacct --nfacct-name  ${LOCALHOST_COUNTER} -j`);
  const on: Given = { port, localhostNodePorts: true };
  t.same(rules({ ...on, nfacct: [LOCALHOST_COUNTER] }, 'KUBE-NODEPORTS'), [`-d 127.0.0.0/8 ${counted}`, plain]);
  t.same(rules({ ...on, nfacct: [INVALID_COUNTER] }, 'KUBE-NODEPORTS'), [plain]);
  t.same(rules({ port, nfacct: [LOCALHOST_COUNTER] }, 'KUBE-NODEPORTS'), [plain]);
});

t.test('an address that is external IP and load balancer IP is served as external IP (S-46)', async (t) => {
  const both: Frontend[] = [
    { kind: 'loadBalancer', ip: '198.18.0.10', port: 80 },
    { kind: 'externalIP', ip: '198.18.0.10', port: 80 },
  ];
  const found = rules({ port: { frontends: both, sourceRanges: ['203.0.113.0/25'] } }, 'KUBE-SERVICES');
  const rule = (chain: string): string => `-d 198.18.0.10/32 -p tcp -m tcp --dport 80 -j ${chain}`;
  t.same(found, [rule(CHAINS.external), rule(CHAINS.firewall)]);
});

t.test('jumps lead to chains that exist and come earlier', async (t) => {
  const frontends: Frontend[] = [CLUSTER_IP, NODE_PORT, { kind: 'loadBalancer', ip: '198.18.0.10', port: 80 }];
  for (const internalLocal of [false, true]) {
    for (const externalLocal of [false, true]) {
      for (const local of [[], [endpoint('10.128.4.1', 8080, true)]]) {
        const cluster = [...endpoints(2), ...local];
        const fields = { frontends, internalLocal, externalLocal, cluster, local, sourceRanges: ['203.0.113.0/25'] };
        const plan = servicePlan('web', [portPlan(fields)]);
        const { own, shared } = renderService(plan, { settings: SETTINGS, nfacct: [], largeCluster: false });
        const known = new Set(['KUBE-MARK-MASQ']);
        const follow = (all: readonly Rule[]): void => {
          for (const { target } of all) if (target?.target === 'jump') t.ok(known.has(target.chain), target.chain);
        };
        for (const [name, content] of own) {
          follow(content);
          known.add(name);
        }
        for (const part of shared) follow(part.rules);
      }
    }
  }
});

t.test('a large cluster begins above 1,000 endpoints, usable or not (I-31)', async (t) => {
  const plan = (endpointCount: number) => servicePlan('web', [portPlan({ endpointCount })]);
  t.equal(isLargeCluster([plan(600), plan(400)]), false);
  t.equal(isLargeCluster([plan(600), plan(401)]), true);
});

t.test('rules that depend on the settings alone', async (t) => {
  const fixed = (settings: NodeSettings, nfacct: string[] = [], randomFully = true) =>
    fixedChains({ settings, family: 'IPv4', nfacct, randomFully });
  t.test('INVALID packets (I-23)', async (t) => {
    const forward = (settings: NodeSettings, nfacct: string[]): string[] =>
      fixed(settings, nfacct).filter.get('KUBE-FORWARD')!.map(text);
    t.equal(forward(SETTINGS, [])[0], '-m conntrack --ctstate INVALID -j DROP');
    t.match(forward(SETTINGS, [INVALID_COUNTER])[0], /INVALID -m nfacct --nfacct-name {2}ct_state/);
    t.notMatch(forward({ ...SETTINGS, dropInvalid: false }, [INVALID_COUNTER]).join(), 'INVALID');
  });
  t.test('another bit of the mark', async (t) => {
    const { nat, filter } = fixed({ ...SETTINGS, masqueradeBit: 31 }, [], false);
    t.same(nat.get('KUBE-MARK-MASQ')!.map(text), ['-j MARK --set-xmark 0x80000000/0x80000000']);
    t.same(nat.get('KUBE-POSTROUTING')!.map(text), [
      '-m mark ! --mark 0x80000000/0x80000000 -j RETURN',
      '-j MARK --set-xmark 0x80000000/0x0',
      '-j MASQUERADE',
    ]);
    t.match(filter.get('KUBE-FORWARD')!.map(text)[1], /--mark 0x80000000/);
  });
  t.test('the guard of loopback addresses (I-24)', async (t) => {
    t.equal(fixed(SETTINGS).filter.has('KUBE-FIREWALL'), false, 'the chain is left to the kubelet');
    t.equal(fixed(settingsOf({ localhostNodePorts: true })).filter.get('KUBE-FIREWALL')!.length, 1);
    const tables = tablesOf([], { settings: SETTINGS, family: 'IPv4', nfacct: [], randomFully: true });
    t.same(tables.filter.get('KUBE-FIREWALL'), [], 'but it exists');
  });
  t.test('jumps to node ports (I-13)', async (t) => {
    const jumps = (
      nodePortAddresses: 'all' | string[],
      localhostNodePorts: boolean,
      family: 'IPv4' | 'IPv6' = 'IPv4',
    ) => {
      const own = { ...SETTINGS.families[family]!, nodePortAddresses, localhostNodePorts };
      return nodePortJumps({ settings: { ...SETTINGS, families: { [family]: own } }, family }).map(text);
    };
    t.same(jumps('all', true), ['-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS']);
    t.same(jumps('all', false), ['! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS']);
    t.same(jumps('all', false, 'IPv6'), ['! -d ::1/128 -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS']);
    t.same(jumps(['192.0.2.11', '127.0.0.1'], true), [
      '-d 192.0.2.11/32 -j KUBE-NODEPORTS',
      '-d 127.0.0.1/32 -j KUBE-NODEPORTS',
    ]);
    t.same(jumps([], false), [], 'no address, no node ports');
  });
  t.throws(() => nodePortJumps({ settings: { ...SETTINGS, families: {} }, family: 'IPv6' }), /no settings for IPv6/);
});
