// agentctl dump --manifests: no agent, no kernel, no root.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { agentctl, MANIFESTS } from '../support/agentctl.ts';
import { golden } from '../support/golden.ts';

const OFFLINE = ['dump', '--manifests', MANIFESTS, '--node', 'node-a'];

t.test('all rules', async (t) => {
  const { code, out, err } = await agentctl(...OFFLINE);
  t.equal(code, 0);
  t.equal(err, '');
  golden(t, 'dump-all.nft', out);
});

t.test('a Service is explained', async (t) => {
  for (const service of ['shop/web', 'shop/cart', 'kube-system/dns', 'shop/broken']) {
    const { code, out, err } = await agentctl(...OFFLINE, '--service', service);
    t.equal(code, 0, service);
    t.equal(err, '');
    golden(t, `dump-${service.replace('/', '-')}.txt`, out);
  }
});

t.test('settings from --config', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'agentctl-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const config = join(folder, 'config.yaml');
  writeFileSync(
    config,
    `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: Node-A
detectLocalMode: NodeCIDR
nodePortAddresses: [198.18.0.0/15]
`,
  );
  const { code, out } = await agentctl('dump', '--manifests', MANIFESTS, '--config', config, '--service', 'shop/web');
  t.equal(code, 0);
  t.match(out, 'external, from inside: this node and its pods');
  t.match(out, 'kept for pods in 10.244.1.0/24, masqueraded for the node');
  t.match(out, 'masqueraded, but kept for pods in 10.244.1.0/24');
  t.match(out, "30080 on no address: none of this node's is in nodePortAddresses");

  writeFileSync(
    config,
    'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nipvs:\n  scheduler: lc\n',
  );
  const other = await agentctl(...OFFLINE, '--config', config, '--service', 'shop/web');
  t.equal(other.code, 0);
  t.match(other.out, 'scheduler lc');
  t.match(other.out, '-A -t 10.96.0.10:80 -s lc');
});

t.test('ipvs mode', async (t) => {
  const ipvs = [...OFFLINE, '--proxy-mode', 'ipvs'];
  const web = await agentctl(...ipvs, '--service', 'shop/web');
  t.equal(web.code, 0);
  t.equal(web.err, '');
  golden(t, 'dump-ipvs-shop-web.txt', web.out);
  const rules = async (...args: string[]): Promise<string> =>
    (await agentctl(...ipvs, '--output', 'rules', ...args)).out;
  const all = await rules();
  t.match(
    all,
    /^-A -t 10\.96[\s\S]*\n\nkube-ipvs0 [^\n]*\n\ntable ip kubeplumb-ipvs \{[\s\S]*\}\n\ntable ip6 kubeplumb-ipvs \{/,
  );
  const six = await rules('--family', 'IPv6');
  t.match(
    six,
    /^-A -t \[fd00:96::10\]:80 -s rr[\s\S]*\n\nkube-ipvs0 +DOWN +fd00:[^\n]*\n\ntable ip6 kubeplumb-ipvs \{/,
  );
  t.notMatch(six, /10\.96\.|table ip kubeplumb/);
  const four = await rules('--family', 'IPv4');
  const lines = (text: string): number =>
    text.split('\n').filter((l) => l.startsWith('-') || l.startsWith('\t')).length;
  t.equal(lines(six) + lines(four), lines(all), 'each line is of one family');
});

t.test('outputs', async (t) => {
  const rules = await agentctl(...OFFLINE, '--service', 'shop/web', '--output', 'rules', '--family', 'IPv6');
  t.equal(rules.code, 0);
  t.ok(rules.out.startsWith('table ip6 kubeplumb {\n'));
  t.notMatch(rules.out, 'table ip kubeplumb');
  const json = await agentctl(...OFFLINE, '--service', 'shop/web', '--output', 'json', '--family', 'IPv6');
  const { source, services, rules: lines } = JSON.parse(json.out);
  t.equal(source, 'manifests');
  t.equal(`${lines.join('\n')}\n`, rules.out);
  t.match(services, [{ service: 'shop/web', ports: [{ name: 'shop/web:http', family: 'IPv6' }] }]);
  t.equal(services[0].ports.length, 1);
  const all = JSON.parse((await agentctl(...OFFLINE, '--output', 'json')).out);
  t.same(
    all.services.map((s: { service: string }) => s.service),
    ['kube-system/dns', 'shop/broken', 'shop/cart', 'shop/web'],
  );
});

t.test('what goes wrong is told', async (t) => {
  const cases: [string[], string | RegExp][] = [
    [
      [...OFFLINE, '--service', 'shop/wbe'],
      'agentctl: this node handles no Service shop/wbe\nDid you mean shop/web?\n',
    ],
    [[...OFFLINE, '--service', 'default/cart'], /Did you mean shop\/cart\?/],
    [[...OFFLINE, '--service', 'shop/headless'], /Headless and ExternalName Services need no proxy/],
    [[...OFFLINE, '--service', 'web'], /write it as namespace\/name/],
    [['dump', '--manifests', MANIFESTS], /--manifests needs --node/],
    [['dump', '--manifests', '/does/not/exist', '--node', 'a'], /\/does\/not\/exist: .*ENOENT/],
    [['dump', '--node', 'a'], /--node is for --manifests/],
    [[...OFFLINE, '--from', 'kernel'], /cannot be used with/],
    [[...OFFLINE, '--family', 'IPv5'], /IPv4, IPv6/],
    [[...OFFLINE, '--config', '/does/not/exist'], /--config: .*ENOENT/],
  ];
  for (const [argv, message] of cases) {
    const { code, out, err } = await agentctl(...argv);
    t.equal(code, 1, argv.join(' '));
    t.equal(out, '');
    t.match(err, message);
  }
});

t.test('a Node that is not among the manifests', async (t) => {
  const { code, out, err } = await agentctl('dump', '--manifests', MANIFESTS, '--node', 'node-x', '-s', 'shop/web');
  t.equal(code, 0);
  t.match(err, /warning: no Node node-x among the manifests/);
  t.match(out, 'node port         30080 on every address of this node');
});
