// What the soak with faults takes for the same rules, and how it counts endpoints.
import t from 'tap';
import {
  canonicalRules,
  canonicalSave,
  differences,
  endpointCount,
  withoutSpareChains,
} from '../../bench/final-state.ts';

const rules = (endpoints: readonly string[], { actions = '', chains = '' } = {}): string => `table ip kubeplumb {
	map actions {
		typeof meta priority : verdict
		elements = { 8001:2 : goto lb-2${actions} }
	}

	map endpoints {
		typeof ip daddr . meta l4proto . th dport . numgen random mod 2 : ip daddr . th dport
		elements = { ${endpoints.join(',\n\t\t\t     ')} }
	}

	chain lb-2 {
		numgen random mod 2
		accept
	}
${chains}}
`;
const A = '10.96.0.10 . tcp . 80 . 0 : 10.244.1.5 . 8080';
const B = '10.96.0.10 . tcp . 80 . 1 : 10.244.2.5 . 8080';
const SPARE = { actions: ',\n\t\t\t     8001:99 : goto lb-99', chains: '\n\tchain lb-99 {\n\t\taccept\n\t}\n' };

t.test('order and indices mean nothing, endpoints and frontends do', async (t) => {
  const canonical = canonicalRules(rules([A, B]));
  const swapped = [B.replace('. 1 :', '. 0 :'), A.replace('. 0 :', '. 1 :')];
  t.equal(canonicalRules(rules(swapped)), canonical);
  t.not(canonicalRules(rules([A, B.replace('2.5', '2.6')])), canonical);
  t.not(canonicalRules(rules([A])), canonical);
  t.not(canonicalRules(rules([A, B]).replace('accept', 'drop')), canonical);
  t.not(
    canonicalRules(rules([A, B]).replace(/(\t\tnumgen.*\n)(\t\taccept\n)/, '$2$1')),
    canonical,
    'rules have an order',
  );
  t.same(differences(canonical, canonicalRules(rules([A]))), ['-  10.96.0.10 . tcp . 80 . # : 10.244.2.5 . 8080']);
});

t.test('numbers of ServicePorts mean nothing', async (t) => {
  const affinity = (word: string, ip: string): string =>
    `table ip kubeplumb {\n\tmap affinity-endpoints {\n\t\telements = { 10.96.0.1 . tcp . 80 . ${word} : ${ip} . 8080 }\n\t}\n}\n`;
  const canonical = canonicalRules(affinity('8000:2001', '10.244.1.5'));
  t.equal(canonicalRules(affinity('8001:4003', '10.244.1.5')), canonical);
  t.not(canonicalRules(affinity('8000:2001', '10.244.1.6')), canonical);
});

t.test('a chain for a number of endpoints may be left over, nothing else', async (t) => {
  const fresh = canonicalRules(rules([A, B]));
  const without = (text: string): string => withoutSpareChains(canonicalRules(text), fresh);
  t.not(canonicalRules(rules([A, B], SPARE)), fresh);
  t.equal(without(rules([A, B], SPARE)), fresh);
  t.not(without(rules([A], SPARE)), fresh);
  const foreign = { actions: '', chains: SPARE.chains.replace('lb-99', 'foreign') };
  t.not(without(rules([A, B], foreign)), fresh);
  const missing = withoutSpareChains(fresh, canonicalRules(rules([A, B], SPARE)));
  t.not(missing, canonicalRules(rules([A, B], SPARE)), 'one that is needed may not be missing');
});

t.test('iptables: Services have no order, their endpoints do', async (t) => {
  const save = (...rules: string[]): string => `# IPv4\n*nat\n${rules.map((rule) => `-A ${rule}\n`).join('')}COMMIT\n`;
  const services = ['KUBE-SERVICES -d 10.96.0.1/32 -j KUBE-SVC-A', 'KUBE-SERVICES -d 10.96.0.2/32 -j KUBE-SVC-B'];
  const endpoints = ['KUBE-SVC-A -m statistic --probability 0.5 -j KUBE-SEP-A', 'KUBE-SVC-A -j KUBE-SEP-B'];
  const canonical = canonicalSave(save(...services, ...endpoints));
  t.equal(canonicalSave(save(...services.toReversed(), ...endpoints)), canonical);
  t.not(canonicalSave(save(...services, ...endpoints.toReversed())), canonical);
  t.not(canonicalSave(save(...services, endpoints[0]!)), canonical);
  t.not(
    canonicalSave(save(services[0]!, services[0]!, services[1]!, ...endpoints)),
    canonical,
    'nor may one be there twice',
  );
  const counter = (name: string): string => `KUBE-FORWARD -m conntrack --ctstate INVALID${name} -j DROP`;
  const counted = save(
    counter(' -m nfacct --nfacct-name  dropped'),
    'KUBE-NODEPORTS -m nfacct --nfacct-name  lo -j KUBE-EXT-A',
  );
  t.equal(canonicalSave(counted), canonicalSave(save(counter(''))));
});

t.test('endpoints of cluster IPs', async (t) => {
  const node = '0.0.0.0 . tcp . 30080 . 0 : 10.244.1.5 . 8080';
  const sticky = '10.111.255.1 . tcp . 80 . 8000:2001 : 10.244.1.5 . 8080';
  t.equal(endpointCount('nftables', rules([A, B, node, sticky])), 3);
  const dnat = '-A KUBE-SEP-AAAA -p tcp -m comment --comment "a/b" -m tcp -j DNAT --to-destination 10.244.1.5:8080\n';
  t.equal(endpointCount('iptables', `${dnat}-A KUBE-SEP-AAAA -s 10.244.1.5/32 -j KUBE-MARK-MASQ\n`), 1);
  t.throws(() => endpointCount('userspace', ''), /userspace/);
});
