// I-2…I-4; the vectors compare more names.
import t from 'tap';
import { endpointChain, isOwnedChain, serviceChains } from '../../../backends/iptables/names.ts';

t.test('names of a ServicePort', async (t) => {
  t.same(serviceChains('ns1/svc1:p80', 'TCP'), {
    cluster: 'KUBE-SVC-XPGD46QRK7WJZT7O',
    local: 'KUBE-SVL-XPGD46QRK7WJZT7O',
    external: 'KUBE-EXT-XPGD46QRK7WJZT7O',
    firewall: 'KUBE-FW-XPGD46QRK7WJZT7O',
  });
  t.equal(endpointChain('ns1/svc1:p80', 'TCP', '10.180.0.1:80'), 'KUBE-SEP-SXIVWICOYRO3J4NJ');
  t.not(serviceChains('ns1/svc1:p80', 'UDP').cluster, 'KUBE-SVC-XPGD46QRK7WJZT7O', 'the protocol counts');
});

t.test('a name fits whatever it is of', async (t) => {
  const long = `${'n'.repeat(63)}/${'s'.repeat(63)}:${'p'.repeat(63)}`;
  const { cluster, local, external, firewall } = serviceChains(long, 'SCTP');
  const endpoint = endpointChain(long, 'SCTP', '[2001:db8:1111:2222:3333:4444:5555:6666]:65535');
  for (const name of [cluster, local, external, firewall, endpoint]) {
    t.match(name, /^KUBE-(SVC|SVL|EXT|FW|SEP)-[A-Z2-7]{16}$/);
    t.ok(name.length <= 28);
    t.ok(isOwnedChain(name));
  }
});

t.test('chains that are not of a ServicePort', async (t) => {
  for (const name of [
    'KUBE-SERVICES',
    'KUBE-FIREWALL',
    'KUBE-FORWARD',
    'KUBE-KUBELET-CANARY',
    'KUBE-SVC',
    'MY-KUBE-SVC-A',
  ])
    t.notOk(isOwnedChain(name), name);
});
