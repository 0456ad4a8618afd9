// Node IPs and the addresses that serve node ports, beyond the recorded vectors.
import t from 'tap';
import { nodeAddresses } from '../../agent/plan/node-addresses.ts';
import { defaultNodePortAddresses, nodePortAddresses, resolvePrimary } from '../../agent/plan/nodeport-addresses.ts';
import { parseNode } from '../../agent/state/objects.ts';
import { rawNode } from '../support/kube-objects.ts';

const interfaces = [
  { name: 'lo', addresses: ['127.0.0.1', '::1'] },
  { name: 'eth0', addresses: ['192.0.2.11', '2001:db8::11', 'fe80::11'] },
  { name: 'eth1', addresses: ['192.0.2.11', '198.51.100.11'] },
  { name: 'kube-ipvs0', addresses: ['10.96.0.1'] },
];

t.test('unusable bind addresses say nothing (P-14)', async (t) => {
  const { object: node } = parseNode(rawNode('worker-a'));
  for (const bindAddress of ['', '0.0.0.0', '::', 'nonsense']) {
    t.same(nodeAddresses({ node, bindAddress }), { primaryFamily: 'IPv4', IPv4: '192.0.2.11', IPv6: '::1' });
  }
});

t.test('defaults and `primary` (S-51)', async (t) => {
  t.same(defaultNodePortAddresses('nftables'), ['primary']);
  t.same(defaultNodePortAddresses('iptables'), []);
  t.same(defaultNodePortAddresses('ipvs'), []);
  const addresses = { primaryFamily: 'IPv4', IPv4: '127.0.0.1', IPv6: '::1' } as const;
  t.same(resolvePrimary(['primary'], addresses), [], 'nothing known: all addresses');
  t.same(resolvePrimary(['primary'], { ...addresses, IPv4: '192.0.2.11' }), ['192.0.2.11/32']);
  t.same(resolvePrimary(['10.0.0.0/8'], addresses), ['10.0.0.0/8']);
});

t.test('what each mode serves (S-50)', async (t) => {
  const served = (mode: 'iptables' | 'ipvs' | 'nftables', family: 'IPv4' | 'IPv6', setting: string[]) =>
    nodePortAddresses({ mode, family, setting, interfaces }).served;
  for (const mode of ['iptables', 'nftables'] as const) {
    t.equal(served(mode, 'IPv4', []), 'all');
    t.equal(served(mode, 'IPv6', ['192.0.2.0/24']), 'all');
    t.same(served(mode, 'IPv4', ['127.0.0.0/8', '192.0.2.0/24']), ['192.0.2.11'], 'no loopback, nothing twice');
    t.same(served(mode, 'IPv4', ['203.0.113.0/24']), [], 'matches nothing: none');
    t.same(served(mode, 'IPv6', ['::1/128', 'fe80::/10']), ['fe80::11']);
  }
  t.same(served('ipvs', 'IPv4', []), ['192.0.2.11', '198.51.100.11']);
  t.same(served('ipvs', 'IPv6', []), ['2001:db8::11']);
  t.same(served('ipvs', 'IPv4', ['10.96.0.0/16']), []);
});
