// The exercise of every Kubernetes course, word for word: find the Service in KUBE-SERVICES, follow its chain with the
// probabilities to the chains of its endpoints, delete an endpoint and look again.
import t from 'tap';
import { inVariant, NodeTools, VARIANTS, variantMissing } from '../support/iptables-node.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import { PODS, podIp, startTestNode } from '../support/test-node.ts';

const missing = await namespacesMissing();
const IP = '10.96.0.80';
const NODE_PORT = 30080;

for (const variant of VARIANTS) {
  t.test(`iptables-${variant}`, { skip: missing ?? variantMissing(variant) }, async (t) => {
    const objects = [
      rawService('web', {
        type: 'NodePort',
        clusterIP: IP,
        clusterIPs: [IP],
        ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: NODE_PORT }],
      }),
      rawSlice('web-1', 'web', [1, 2, 3].map(podIp)),
    ];
    const node = await startTestNode(t, { objects });
    const agent = node.agent(inVariant(variant));
    await agent.ready();
    const tools = new NodeTools(node.net, variant);
    /** Lines of a listing, blanks made single. */
    const look = (command: string): string[] =>
      tools
        .run(command)
        .split('\n')
        .map((line) => line.trim().replaceAll(/\s+/g, ' '))
        .filter((line) => line !== '');
    const reached = async (): Promise<string[]> => {
      const answers = await node.client.call('connect', { proto: 'TCP', ip: IP, port: 80, count: 60, width: 8 });
      return [...new Set(answers.map((a) => (a.outcome === 'answered' ? a.host : a.outcome)))].sort();
    };

    // $ iptables -t nat -L KUBE-SERVICES -n
    const services = look('iptables -t nat -L KUBE-SERVICES -n');
    t.match(services[0], /^Chain KUBE-SERVICES \(2 references\)$/);
    t.match(services[1], /^target prot opt source destination$/);
    const line = services.find((text) => text.includes(IP));
    t.match(
      line,
      new RegExp(`^KUBE-SVC-[A-Z2-7]{16} (tcp|6) -- 0.0.0.0/0 ${IP} /\\* shop/web:http cluster IP \\*/ tcp dpt:80$`),
    );
    t.match(
      services.at(-1),
      /^KUBE-NODEPORTS .* this must be the last rule in this chain \*\/ ADDRTYPE match dst-type LOCAL/,
    );
    const svc = line!.split(' ')[0]!;

    // $ iptables -t nat -L KUBE-SVC-… -n
    const chances = (rows: readonly string[]): string[] =>
      rows
        .filter((text) => text.startsWith('KUBE-SEP-'))
        .map((text) => /statistic mode random probability ([\d.]+)$/.exec(text)?.[1] ?? 'always');
    const choices = look(`iptables -t nat -L ${svc} -n`);
    t.match(choices[0], new RegExp(`^Chain ${svc} \\(2 references\\)$`), 'from KUBE-SERVICES and from KUBE-EXT');
    t.match(
      choices[2],
      new RegExp(`^KUBE-MARK-MASQ (tcp|6) -- !10.128.0.0/9 ${IP} /\\* shop/web:http cluster IP \\*/ tcp dpt:80$`),
    );
    t.same(chances(choices), ['0.33333333349', '0.50000000000', 'always']);

    // $ iptables -t nat -L KUBE-SEP-… -n
    const seps = choices.filter((text) => text.startsWith('KUBE-SEP-')).map((text) => text.split(' ')[0]!);
    for (const [i, sep] of seps.entries()) {
      const ip = podIp(i + 1);
      const [, , hairpin, dnat] = look(`iptables -t nat -L ${sep} -n`);
      t.match(hairpin, new RegExp(`^KUBE-MARK-MASQ (all|0) -- ${ip} 0.0.0.0/0 /\\* shop/web:http \\*/$`));
      t.match(dnat, new RegExp(`^DNAT (tcp|6) -- 0.0.0.0/0 0.0.0.0/0 /\\* shop/web:http \\*/ tcp to:${ip}:8080$`));
    }
    t.same(await reached(), PODS.slice(0, 3));

    // $ iptables -t nat -L KUBE-NODEPORTS -n
    const [ext] = look('iptables -t nat -L KUBE-NODEPORTS -n').flatMap(
      (text) => new RegExp(`^(KUBE-EXT-\\w+) .* tcp dpt:${NODE_PORT}$`).exec(text)?.slice(1) ?? [],
    );
    t.match(look(`iptables -t nat -L ${ext} -n`).slice(2), [
      /^KUBE-MARK-MASQ (all|0) .* masquerade traffic for shop\/web:http external destinations/,
      new RegExp(`^${svc} `),
    ]);

    // An endpoint is deleted.
    const { version } = node.server.store.put(rawSlice('web-1', 'web', [1, 3].map(podIp)));
    await agent.acknowledged(version);
    const fewer = look(`iptables -t nat -L ${svc} -n`);
    t.same(chances(fewer), ['0.50000000000', 'always']);
    t.same(
      fewer.filter((text) => text.startsWith('KUBE-SEP-')).map((text) => text.split(' ')[0]),
      [seps[0], seps[2]],
      'the chains of the others are the same as before',
    );
    t.throws(() => look(`iptables -t nat -L ${seps[1]} -n`), /No chain\/target\/match by that name|is incompatible/);
    t.same(await reached(), [PODS[0], PODS[2]]);

    // None is left.
    const last = node.server.store.put(rawSlice('web-1', 'web', []));
    await agent.acknowledged(last.version);
    t.notMatch(look('iptables -t nat -L KUBE-SERVICES -n').join('\n'), IP);
    t.match(
      look('iptables -L KUBE-SERVICES -n').at(-1),
      new RegExp(
        `^REJECT .* ${IP} /\\* shop/web:http has no endpoints \\*/ tcp dpt:80 reject-with icmp-port-unreachable$`,
      ),
    );
    t.same(await reached(), ['refused']);

    t.notMatch(look('iptables-save').join('\n'), /KUBE-(SVC|EXT|SEP)-/, 'no chain is left over');
    t.match((await agent.status()).repairs, { count: 0 });
  });
}
