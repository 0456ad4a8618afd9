// What each mode needs in a container with read-only kernel settings, once a privileged `--init-only` has been there, and
// what it says when a capability is missing. The table in docs/deployment.md.
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { ProxyMode } from '../../agent/config/types.ts';
import { IpvsConnection } from '../../native/ipvs/connection.ts';
import { asContainer, containerMissing } from '../support/container.ts';
import { TestTool } from '../support/iptables-variant.ts';
import { rawService, rawSlice } from '../support/kube-objects.ts';
import { namespacesMissing } from '../support/namespaces.ts';
import type { RunningAgent } from '../support/running-agent.ts';
import { podIp, startTestNode, type TestNode } from '../support/test-node.ts';
import { scaled } from '../support/time-scale.ts';

const MAIN = fileURLToPath(new URL('../../agent/main.ts', import.meta.url));
const SERVICE = '10.96.0.80';
const objects = [
  rawService('web', {
    clusterIP: SERVICE,
    clusterIPs: [SERVICE],
    ports: [{ name: 'http', protocol: 'TCP', port: 80 }],
  }),
  rawSlice('web-1', 'web', [podIp(1), podIp(2)]),
];
/** The first needs to be written by the container that prepares. */
const flags = ['--conntrack-tcp-timeout-established=1h', '--oom-score-adj=0'];

const REFUSED = /EPERM|EACCES|EROFS|not permitted|permission|read-only/i;

interface Row {
  readonly name: string;
  readonly mode: ProxyMode;
  readonly needs: readonly string[];
  readonly variant?: 'nft' | 'legacy';
  /** What the node's programs lack for it, or false. */
  readonly missing: string | false;
}

const rows: readonly Row[] = [
  { name: 'nftables', mode: 'nftables', needs: ['net_admin'], missing: false },
  {
    name: 'iptables, variant nft',
    mode: 'iptables',
    variant: 'nft',
    needs: ['net_admin'],
    missing: new TestTool('nft', 'IPv4').missing,
  },
  {
    name: 'iptables, variant legacy',
    mode: 'iptables',
    variant: 'legacy',
    needs: ['net_admin', 'net_raw'],
    missing: new TestTool('legacy', 'IPv4').missing,
  },
  { name: 'ipvs', mode: 'ipvs', needs: ['net_admin'], missing: ipvsMissing() },
];

/** The kernel loads the module when it is asked for. */
function ipvsMissing(): string | false {
  const connection = IpvsConnection.open();
  connection?.close();
  return connection === null && 'this kernel has no IPVS (module ip_vs)';
}

const lastLines = ({ lines }: RunningAgent): string =>
  lines
    .slice(-3)
    .map((line) => JSON.stringify(line))
    .join('\n');

async function nodeOf(t: Parameters<typeof startTestNode>[0]): Promise<TestNode> {
  return startTestNode(t, { objects });
}

const skip = (await namespacesMissing()) ?? containerMissing() ?? false;
t.setTimeout(scaled(240_000));

for (const { name, mode, variant, needs, missing } of rows) {
  const env = variant ? { KUBEPLUMB_IPTABLES_VARIANT: variant } : {};
  const start = (node: TestNode, capabilities: readonly string[] | 'all', more: readonly string[] = []): RunningAgent =>
    node.agent({
      mode,
      env,
      flags: [...flags, ...more],
      command: [...asContainer({ capabilities }), process.execPath, MAIN],
    });

  t.test(`${name}: ${needs.join(' and ')} are enough after --init-only`, { skip: skip || missing }, async (t) => {
    const node = await nodeOf(t);
    const init = start(node, 'all', ['--init-only']);
    t.equal(await init.ended, 0, lastLines(init));
    const agent = start(node, needs);
    await agent.ready();
    const answer = await node.client.dial({ proto: 'TCP', ip: SERVICE, port: 80 });
    t.equal(answer.outcome, 'answered');
    t.strictSame(
      agent.lines.filter((line) => REFUSED.test(JSON.stringify(line))),
      [],
      'nothing is refused',
    );
    t.equal(await agent.stop(), 0);
  });

  for (const lacking of needs) {
    t.test(`${name}: without ${lacking} it ends, and says why`, { skip: skip || missing }, async (t) => {
      const node = await nodeOf(t);
      const init = start(node, 'all', ['--init-only']);
      t.equal(await init.ended, 0, lastLines(init));
      const agent = start(
        node,
        needs.filter((capability) => capability !== lacking),
      );
      t.equal(await agent.ended, 1);
      t.match(agent.lines.at(-1)?.msg, new RegExp(`CAP_${lacking.toUpperCase()}`));
    });
  }
}

// A proxy that wrote to legacy tables is followed by mode nftables.
for (const capabilities of [['net_admin'], ['net_admin', 'net_raw']]) {
  const removes = capabilities.includes('net_raw');
  const legacy = new TestTool('legacy', 'IPv4');
  const name = `nftables with ${capabilities.join(' and ')} ${removes ? 'removes' : 'reports'} what is left in legacy tables`;
  t.test(name, { skip: skip || legacy.missing }, async (t) => {
    const node = await nodeOf(t);
    const chains = (): string => node.net.exec('node', ['iptables-legacy-save', '-t', 'nat']);
    node.net.exec('node', ['iptables-legacy', '-t', 'nat', '-N', 'KUBE-SERVICES']);
    const comment = ['-m', 'comment', '--comment', 'kubernetes service portals'];
    node.net.exec('node', ['iptables-legacy', '-t', 'nat', '-A', 'PREROUTING', ...comment, '-j', 'KUBE-SERVICES']);
    const command = [...asContainer({ capabilities }), process.execPath, MAIN];
    const agent = node.agent({ flags: ['--oom-score-adj=0'], command });
    await agent.ready();
    const said = removes ? 'removed the rules of another mode' : 'cannot remove the rules of another mode';
    const line = await agent.line(said, ({ msg, mode }) => msg === said && mode === 'iptables');
    if (removes) t.notMatch(chains(), /KUBE-/);
    else t.match(JSON.stringify(line), /CAP_NET_RAW/);
  });
}
