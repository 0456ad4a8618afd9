// The simulator is strict: rules that the kernel or the tools would refuse throw.
import t from 'tap';
import type { Chains, Rule, Table } from '../../backends/iptables/rule.ts';
import { tablesOf } from '../../backends/iptables/ruleset.ts';
import { IptablesSimulator } from './iptables-simulator.ts';
import { endpoints, portPlan, SETTINGS, servicePlan } from './plans.ts';
import type { Packet } from './ruleset-simulator.ts';

const plan = (count: number, affinitySeconds: number | null = null) =>
  servicePlan('web', [portPlan({ cluster: endpoints(count), affinitySeconds })]);
const tablesWith = (count: number, affinity: number | null = null) =>
  tablesOf([plan(count, affinity)], { settings: SETTINGS, family: 'IPv4', nfacct: [], randomFully: true });
const PACKET: Packet = {
  source: '203.0.113.50',
  destination: '10.96.0.1',
  port: 80,
  protocol: 'TCP',
  interface: 'eth0',
};
const localAddresses = ['192.0.2.11'];

t.test('every end of a random choice, with its probability', async (t) => {
  const simulator = new IptablesSimulator({ tables: { IPv4: tablesWith(3) }, localAddresses });
  const found = simulator.outcomes(PACKET);
  t.same(
    found.map(({ endpoint }) => endpoint),
    ['10.128.0.1:8080', '10.128.0.2:8080', '10.128.0.3:8080'],
  );
  for (const { probability, result, masquerade, mark, postrouting } of found) {
    t.ok(Math.abs(probability - 1 / 3) < 1e-9);
    t.same([result, masquerade, mark, postrouting], ['DNAT', true, 0, true]);
  }
  t.throws(() => simulator.connect(PACKET, '10.128.0.9:8080'), /no way to 10.128.0.9:8080/);
});

t.test('a list of clients goes with the last rule that names it', async (t) => {
  let nowMs = 0;
  const simulator = new IptablesSimulator({ tables: { IPv4: tablesWith(3, 60) }, localAddresses, nowMs: () => nowMs });
  const reached = (): number => simulator.outcomes(PACKET).length;
  simulator.connect(PACKET, '10.128.0.3:8080');
  t.equal(reached(), 1);
  simulator.replaceTables({ IPv4: tablesWith(4, 60) });
  t.equal(reached(), 1, 'rewritten rules keep it');
  simulator.replaceTables({ IPv4: tablesWith(2, 60) });
  simulator.replaceTables({ IPv4: tablesWith(3, 60) });
  t.equal(reached(), 3);
  simulator.connect(PACKET, '10.128.0.3:8080');
  nowMs = 60_000;
  t.equal(reached(), 1);
  nowMs = 60_001;
  t.equal(reached(), 3, 'it is over');
});

t.test('what is refused', async (t) => {
  const with_ = (table: Table, chain: string, rule: Partial<Rule>): (() => unknown) => {
    const tables = tablesWith(1);
    const rules: Chains = new Map(tables[table]);
    rules.set(chain, [{ matches: [], target: null, ...rule }, ...(rules.get(chain) ?? [])]);
    const simulator = new IptablesSimulator({ tables: { IPv4: { ...tables, [table]: rules } }, localAddresses });
    return () => simulator.outcomes(PACKET);
  };
  const loop: Rule['target'] = { target: 'jump', chain: 'KUBE-SERVICES' };
  t.throws(with_('nat', 'PREROUTING', { target: { target: 'jump', chain: 'NOWHERE' } }), /nat has no chain NOWHERE/);
  t.throws(with_('nat', 'KUBE-SERVICES', { target: loop }), /too many jumps/);
  t.throws(with_('nat', 'PREROUTING', { target: { target: 'DROP' } }), /DROP is not allowed in table nat/);
  t.throws(with_('nat', 'PREROUTING', { target: { target: 'REJECT' } }), /REJECT is not allowed/);
  t.throws(with_('nat', 'PREROUTING', { target: { target: 'MASQUERADE', randomFully: true } }), /not allowed in table/);
  t.throws(with_('filter', 'FORWARD', { target: { target: 'DNAT', ip: '10.0.0.1', port: 1 } }), /not allowed in table/);
  t.throws(with_('nat', 'PREROUTING', { matches: [{ match: 'port', port: 80 }] }), /port without a protocol/);
  t.throws(with_('nat', 'PREROUTING', { source: { cidr: '10.0.0.1', not: false } }), /no canonical CIDR/);
});
