// Two nodes as network namespaces on one LAN, with the API server's machine and one outside; pods hang on their node.
//
//   pods ──veth── node-1 ──eth0──┐
//   pods ──veth── node-2 ──eth0──┼── bridge in "lan", where the API server runs
//                 outside ──eth0─┘   (sends everything to node-1)
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import {
  createNamespaces,
  endAtExit,
  hasEnded,
  ipBatch,
  namespaceName,
  removeNamespaces,
  within,
} from '../../../test/support/namespaces.ts';
import type { ClusterNode } from '../cluster.ts';

export const NODES: readonly ClusterNode[] = [
  { name: 'node-1', ips: ['172.18.0.11', 'fd00:172:18::11'] },
  { name: 'node-2', ips: ['172.18.0.12', 'fd00:172:18::12'] },
];
export const LAN_IPS = ['172.18.0.1', 'fd00:172:18::1'] as const;
export const OUTSIDE_IPS = ['172.18.0.100', 'fd00:172:18::100'] as const;
/** Of all pods; each node has a part. */
export const POD_CIDRS = ['10.128.0.0/16', 'fd00:10:128::/48'] as const;

const GATEWAYS = ['169.254.1.1', 'fe80::1'] as const;
const ROUTER_MAC = '02:00:00:00:00:01';
const ROLES = ['lan', ...NODES.map(({ name }) => name), 'outside'];

const SYSCTLS: readonly string[] = [
  ...['all', 'default'].flatMap((conf) => [
    `ipv4/conf/${conf}/rp_filter=0`,
    `ipv4/conf/${conf}/send_redirects=0`,
    `ipv4/conf/${conf}/accept_redirects=0`,
    `ipv6/conf/${conf}/accept_dad=0`,
    `ipv6/conf/${conf}/accept_redirects=0`,
  ]),
  'ipv6/conf/default/accept_ra=0',
  'ipv4/icmp_ratelimit=0',
  'ipv6/icmp/ratelimit=0',
];
const FORWARDING = ['ipv4/ip_forward=1', 'ipv6/conf/all/forwarding=1', 'ipv6/conf/default/forwarding=1'];

function sysctl(role: string, settings: readonly string[]): void {
  within(role, () => {
    for (const setting of settings) {
      const [name, value = ''] = setting.split('=');
      writeFileSync(`/proc/sys/net/${name}`, value);
    }
  });
}

const nodad = (line: string): string => (line.includes(':') ? `${line} nodad` : line);
const onLan = (ip: string): string => nodad(`addr add ${ip}/${ip.includes(':') ? 64 : 16} dev eth0`);
const podCidr = (node: number, family: number): string =>
  family === 0 ? `10.128.${node + 1}.0/24` : `fd00:10:128:${node + 1}::/64`;

export class Topology {
  #lastPod = 0;

  /** Await namespacesMissing first. */
  constructor() {
    try {
      createNamespaces(ROLES);
      for (const role of ROLES) sysctl(role, role.startsWith('node') ? [...SYSCTLS, ...FORWARDING] : SYSCTLS);
      const lan = namespaceName('lan');
      const machines = ROLES.slice(1);
      ipBatch(
        machines.map((role) => {
          return `link add lan-${role} netns ${lan} type veth peer name eth0 netns ${namespaceName(role)}`;
        }),
      );
      const bridge = ['link set lo up', 'link add eth0 type bridge', 'link set eth0 up', ...LAN_IPS.map(onLan)];
      const ports = machines.map((role) => `link set lan-${role} master eth0 up`);
      // The API server's proxy to pods.
      const toPods = NODES.flatMap(({ ips }, i) =>
        ips.map((via, family) => `route add ${podCidr(i, family)} via ${via}`),
      );
      ipBatch([...bridge, ...ports, ...toPods], 'lan');
      const up = ['link set lo up', 'link set eth0 up'];
      for (const [i, { name, ips }] of NODES.entries()) {
        const other = NODES[1 - i]!;
        const routes = other.ips.map((via, family) => `route add ${podCidr(1 - i, family)} via ${via}`);
        // Where Service addresses would go that no rule catches.
        routes.push(...LAN_IPS.map((ip) => `route add default via ${ip}`));
        ipBatch([...up, ...ips.map(onLan), ...routes], name);
      }
      const towards = NODES[0]!.ips.map((ip) => `route add default via ${ip}`);
      ipBatch([...up, ...OUTSIDE_IPS.map(onLan), ...towards], 'outside');
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Makes the namespace `role` of a pod on a node. @returns its addresses */
  addPod(role: string, node: string): string[] {
    const index = NODES.findIndex(({ name }) => name === node);
    if (index < 0) throw new Error(`no node "${node}"`);
    const last = ++this.#lastPod;
    const ips = [`10.128.${index + 1}.${last + 1}`, `fd00:10:128:${index + 1}::${(last + 1).toString(16)}`];
    const near = `pod${last}`;
    createNamespaces([role]);
    sysctl(role, SYSCTLS);
    ipBatch([
      `link add ${near} address ${ROUTER_MAC} netns ${namespaceName(node)} type veth peer name eth0 netns ${namespaceName(role)}`,
    ]);
    ipBatch([`link set ${near} up`, ...ips.map((ip) => `route add ${ip} dev ${near}`)], node);
    const lines = ['link set lo up', 'link set eth0 up'];
    for (const [family, ip] of ips.entries()) {
      const gateway = GATEWAYS[family];
      lines.push(nodad(`addr add ${ip}/${family === 0 ? 32 : 128} dev eth0`));
      lines.push(
        `neigh add ${gateway} lladdr ${ROUTER_MAC} dev eth0`,
        `route add default via ${gateway} dev eth0 onlink`,
      );
    }
    ipBatch(lines, role);
    return ips;
  }

  /** Removes a pod's namespace; its processes have ended. */
  removePod(role: string): void {
    removeNamespaces([role]);
  }

  /** Starts a program in a namespace; it is killed at the latest when this process exits. */
  spawn(role: string, argv: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const [program = '', ...args] = argv;
    const child = within(role, () => spawn(program, args, options));
    const { pid } = child;
    if (pid !== undefined) {
      endAtExit(pid);
      child.once('exit', () => hasEnded(pid));
    }
    return child;
  }

  close(): void {
    removeNamespaces(ROLES);
  }
}
