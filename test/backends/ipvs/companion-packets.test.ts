// What the companion table does with packets of this node, IPVS left out: which ones get the mark, which ones arrive.
// Tables of the test write down what they see behind it.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import t from 'tap';
import { noCounts } from '../../../backends/backend.ts';
import { desiredCompanion } from '../../../backends/ipvs/companion.ts';
import { COMPANION_TABLE } from '../../../backends/ipvs/companion-schema.ts';
import { Committer } from '../../../backends/nft-table/committer.ts';
import { planTable, writeElements, writeStructure } from '../../../backends/nft-table/table-plan.ts';
import type { NodeSettings } from '../../../backends/service-plan.ts';
import { FAMILIES, type Family } from '../../../native/ip.ts';
import { NftConnection } from '../../../native/nftables/connection.ts';
import { ADDRESSES, companionElements } from '../../support/companion.ts';
import { ipBatch } from '../../support/namespaces.ts';
import { enterNamespace, nft, nftScript } from '../../support/own-namespace.ts';
import { SETTINGS } from '../../support/plans.ts';

/** Bits that packets have already; the table must keep them. */
const OTHERS = 0x80010001;
const BIT = 0x4000;

/** Behind the table's chains: marks in output, marks in postrouting, arrivals. */
function recorder(family: Family): string[] {
  const [ip, type] = family === 'IPv4' ? ['ip', 'ipv4_addr'] : ['ip6', 'ipv6_addr'];
  const key = `${ip} saddr . ${ip} daddr . udp dport`;
  const chain = (name: string, hook: string, priority: number, rule: string): string[] => [
    `add set ${ip} seen ${name} { type ${type} . ${type} . inet_service . mark; size 999; flags dynamic; }`,
    `add chain ${ip} seen ${name} { type filter hook ${hook} priority ${priority}; }`,
    `add rule ${ip} seen ${name} ${rule}`,
  ];
  return [
    `add table ${ip} seen`,
    `add chain ${ip} seen before { type filter hook output priority -150; }`,
    `add rule ${ip} seen before meta mark set ${OTHERS}`,
    ...chain('output', 'output', 0, `update @output { ${key} . meta mark }`),
    ...chain('leaving', 'postrouting', 150, `update @leaving { ${key} . meta mark }`),
    ...chain('arrived', 'input', 10, `update @arrived { ${key} . 0 }`),
  ];
}

/** Sends datagrams from one address and port to another. */
async function send(family: Family, from: string, to: string, port: number, count = 1): Promise<void> {
  const socket = createSocket(family === 'IPv4' ? 'udp4' : 'udp6');
  socket.on('error', () => {}); // refusals by ICMP
  socket.bind(0, from);
  await once(socket, 'listening');
  for (let i = 0; i < count; i++) {
    await new Promise<void>((resolve) => socket.send('x', port, to, () => resolve()));
  }
  await new Promise<void>((resolve) => socket.close(resolve));
}

if (await enterNamespace(t)) {
  const connection = new NftConnection();
  t.teardown(() => connection.close());
  const committer = new Committer(connection, COMPANION_TABLE);
  ipBatch(
    FAMILIES.flatMap((family) => {
      const { ranges: _, loopback: __, ...at } = ADDRESSES[family];
      const length = family === 'IPv4' ? '/32' : '/128 nodad';
      return Object.values(at).map((ip) => `addr add ${ip}${length} dev lo`);
    }),
  );
  t.afterEach(() => nft('flush', 'ruleset'));

  const start = async (family: Family, settings: NodeSettings): Promise<void> => {
    const steps = planTable(null, desiredCompanion(family, settings, companionElements(family)));
    await committer.commit(noCounts(), (batch) => {
      writeStructure(batch, steps);
      writeElements(batch, steps);
    });
    nftScript(recorder(family));
  };
  /** Marks with which packets between these addresses were seen at a place. */
  const seen = (family: Family, where: string, from: string, to: string, port: number): number[] => {
    const text = nft('-n', 'list', 'set', family === 'IPv4' ? 'ip' : 'ip6', 'seen', where);
    const wanted = `${from} . ${to} . ${port} . `;
    const items = /elements = \{([^}]*)\}/.exec(text)?.[1]?.split(',') ?? [];
    return items
      .map((item) => item.trim())
      .flatMap((i) => (i.startsWith(wanted) ? [Number(i.slice(wanted.length))] : []));
  };

  for (const family of FAMILIES) {
    const at = ADDRESSES[family];
    const PODS = SETTINGS;
    const NO_DETECTOR = {
      ...SETTINGS,
      families: { [family]: { ...SETTINGS.families[family]!, detectLocal: null } },
    };
    const ALL = { ...SETTINGS, masqueradeAll: true };
    const marking: readonly [string, NodeSettings, string, string, number, boolean][] = [
      ['node to cluster IP', PODS, at.node, at.cluster, 80, true],
      ['pod to cluster IP', PODS, at.pod, at.cluster, 80, false],
      ['loopback to cluster IP', PODS, at.loopback, at.cluster, 80, false],
      ['a port without a Service', PODS, at.node, at.cluster, 9, false],
      ['everything: pod to cluster IP', ALL, at.pod, at.cluster, 80, true],
      ['everything: loopback to cluster IP', ALL, at.loopback, at.cluster, 80, false],
      ['no detector: cluster IP to itself', NO_DETECTOR, at.cluster, at.cluster, 80, true],
      ['no detector: another port of the source', NO_DETECTOR, at.otherCluster, at.cluster, 80, false],
      ['no detector: node to cluster IP', NO_DETECTOR, at.node, at.cluster, 80, false],
      ['pod to external IP', PODS, at.pod, at.external, 80, true],
      ['node to a load balancer IP of policy Local', PODS, at.node, at.loadBalancer, 80, false],
      ['pod to node port', PODS, at.pod, at.node, 30_001, true],
      ['node port of policy Local', PODS, at.pod, at.node, 30_003, false],
      ['node port of another protocol', PODS, at.pod, at.node, 30_002, false],
      ['loopback to node port', PODS, at.loopback, at.node, 30_001, false],
    ];
    t.test(`${family}: marks`, async (t) => {
      for (const [name, settings, from, to, port, marked] of marking) {
        await start(family, settings);
        await send(family, from, to, port);
        t.same(seen(family, 'output', from, to, port), [marked ? OTHERS + BIT : OTHERS], name);
        t.same(
          seen(family, 'leaving', from, to, port)
            .concat(seen(family, 'leaving', to, to, port))
            .slice(0, 1),
          [OTHERS],
          `${name}: gone when it leaves`,
        );
        nft('flush', 'ruleset');
      }
    });

    t.test(`${family}: only the first packet of a connection is marked`, async (t) => {
      await start(family, PODS);
      await send(family, at.node, at.external, 80, 3);
      t.same(seen(family, 'output', at.node, at.external, 80).sort(), [OTHERS, OTHERS + BIT]);
    });

    const arrivals: readonly [string, string, string, number, boolean][] = [
      ['cluster IP', at.node, at.cluster, 80, true],
      ['external IP', at.node, at.external, 80, true],
      ['load balancer IP', at.node, at.loadBalancer, 80, true],
      ['a port of a cluster IP without a Service', at.node, at.cluster, 9, false],
      ['a port that another cluster IP has', at.node, at.cluster, 81, false],
      ['node port on a cluster IP', at.node, at.cluster, 30_001, false],
      ['health check port is for TCP', at.node, at.cluster, 31_000, false],
      ['an address that is no service’s', at.pod, at.node, 9, true],
      ['a source in a range', at.allowed, at.limited, 80, true],
      ['a source in no range', at.node, at.limited, 80, false],
      ['the load balancer IP itself', at.limited, at.limited, 80, true],
      ['a source in a range of another address', at.allowed, at.loadBalancer, 80, true],
    ];
    t.test(`${family}: arrivals`, async (t) => {
      await start(family, PODS);
      for (const [name, from, to, port, arrives] of arrivals) {
        await send(family, from, to, port);
        // Whatever is masqueraded comes from the address it goes to: the device is loopback.
        const found = seen(family, 'arrived', from, to, port).length + seen(family, 'arrived', to, to, port).length;
        t.equal(found > 0, arrives, name);
      }
    });

    t.test(`${family}: a source in no range is not even sent on`, async (t) => {
      await start(family, PODS);
      await send(family, at.node, at.limited, 80);
      t.same(seen(family, 'output', at.node, at.limited, 80), []);
    });
  }
}
