// A small cluster network made of namespaces:
//
//   local pods ──veth── node ──eth0── LAN (a bridge in "remote") ──eth0── clients
//                                      remote ──veth── remote pods
//
// Pods have /32 and /128 addresses and a default route to their router. Clients send everything that is not on the
// LAN to the node, so Service and external addresses reach it. What the node does not handle goes to "remote", which
// prohibits unknown destinations: traffic that passes the node untouched ("unreachable") can be told from a drop
// ("timeout") and a reject ("refused").
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import type { Family } from '../../native/ip.ts';
import { Host } from './host.ts';
import {
  createNamespaces,
  endAtExit,
  hasEnded,
  ipBatch,
  namespaceName,
  removeNamespaces,
  within,
} from './namespaces.ts';

export const LAN = { IPv4: '172.18.0.0/16', IPv6: 'fd00:172:18::/64' } as const;
/** First IPv4 and IPv6 address on the LAN; the node may get more. */
export const NODE_IPS: readonly string[] = ['172.18.0.2', 'fd00:172:18::2'];
export const REMOTE_IPS: readonly string[] = ['172.18.0.3', 'fd00:172:18::3'];

const FAMILIES: readonly Family[] = ['IPv4', 'IPv6'];
const GATEWAY: Readonly<Record<Family, string>> = { IPv4: '169.254.1.1', IPv6: 'fe80::1' };
const ROUTER_MAC = '02:00:00:00:00:01';

const SYSCTLS: Readonly<Record<string, string>> = {
  'ipv4/conf/all/rp_filter': '0',
  'ipv4/conf/default/rp_filter': '0',
  'ipv4/conf/all/accept_redirects': '0',
  'ipv4/conf/default/accept_redirects': '0',
  'ipv4/conf/all/send_redirects': '0',
  'ipv4/conf/default/send_redirects': '0',
  'ipv4/icmp_ratelimit': '0',
  'ipv6/icmp/ratelimit': '0',
  'ipv6/conf/all/accept_dad': '0',
  'ipv6/conf/default/accept_dad': '0',
  'ipv6/conf/default/accept_ra': '0',
  'ipv6/conf/all/accept_redirects': '0',
  'ipv6/conf/default/accept_redirects': '0',
};
const FORWARDING: Readonly<Record<string, string>> = {
  'ipv4/ip_forward': '1',
  'ipv6/conf/all/forwarding': '1',
  'ipv6/conf/default/forwarding': '1',
};

export interface HostSpec {
  /** Also the name of its namespace's role; at most 10 characters, not `node` or `remote`. */
  readonly name: string;
  /** At most one of each family. */
  readonly ip: readonly string[];
}

export interface PodSpec extends HostSpec {
  /** Runs on the node; else behind the router `remote`. */
  readonly local: boolean;
}

export interface NetworkOptions {
  readonly pods?: readonly PodSpec[];
  /** Machines on the LAN; their addresses must be in LAN. */
  readonly clients?: readonly HostSpec[];
  /** Further addresses of the node on its LAN interface. */
  readonly moreNodeIps?: readonly string[];
}

const familyOf = (ip: string): Family => (ip.includes(':') ? 'IPv6' : 'IPv4');
const full = (ip: string): string => `${ip}/${familyOf(ip) === 'IPv6' ? 128 : 32}`;
const onLan = (ip: string): string => `addr add ${ip}/${LAN[familyOf(ip)].split('/')[1]} dev eth0`;
const nodad = (line: string): string => (line.includes(':') ? `${line} nodad` : line);
const ofFamily = (ips: readonly string[], family: Family): string | undefined =>
  ips.find((ip) => familyOf(ip) === family);

/** The node's (or the router's) interface towards a pod. */
export const podInterface = (pod: string): string => `veth-${pod}`;

function podLines(pod: PodSpec): string[] {
  const lines = ['link set lo up', 'link set eth0 up'];
  for (const ip of pod.ip) {
    const gateway = GATEWAY[familyOf(ip)];
    lines.push(nodad(`addr add ${full(ip)} dev eth0`), `neigh add ${gateway} lladdr ${ROUTER_MAC} dev eth0`);
    lines.push(`route add default via ${gateway} dev eth0 onlink`);
  }
  return lines;
}

/** Routes of a router to its own pods and, through the other router, to the others. */
function routerLines(pods: readonly PodSpec[], local: boolean, other: readonly string[]): string[] {
  const lines: string[] = [];
  for (const pod of pods) {
    if (pod.local === local) lines.push(`link set ${podInterface(pod.name)} up`);
    for (const ip of pod.ip) {
      const via = `via ${ofFamily(other, familyOf(ip))}`;
      lines.push(`route add ${full(ip)} ${pod.local === local ? `dev ${podInterface(pod.name)}` : via}`);
    }
  }
  return lines;
}

function sysctl(values: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(values)) writeFileSync(`/proc/sys/net/${name}`, value);
}

export interface ExecResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}

export class Network {
  readonly #hosts = new Map<string, Host>();
  /** All addresses of the node on the LAN. */
  readonly nodeIps: readonly string[];

  constructor(hosts: readonly Host[]) {
    for (const host of hosts) this.#hosts.set(host.name, host);
    this.nodeIps = this.host('node').ips;
  }

  /** `node`, `remote`, a pod or a client. */
  host(name: string): Host {
    const found = this.#hosts.get(name);
    if (found === undefined) throw new Error(`no host "${name}" in the network`);
    return found;
  }

  /** Name of the host's namespace, for `ip netns exec`. */
  namespace(host: string): string {
    return namespaceName(this.host(host).name);
  }

  /** Runs `act` with this thread in the host's namespace; sockets it opens synchronously stay there. */
  within<T>(host: string, act: () => T): T {
    return within(this.host(host).name, act);
  }

  /** Runs a program to its end and returns what it wrote. @throws Error with its error output when it fails. */
  exec(host: string, argv: readonly string[], input = ''): string {
    const { status, stdout, stderr } = this.tryExec(host, argv, input);
    if (status !== 0) throw new Error(`${argv.join(' ')} on ${host} ended with ${status}: ${stderr.trim()}`);
    return stdout;
  }

  /** As exec, for a program that may fail. @throws Error when it cannot be started. */
  tryExec(host: string, argv: readonly string[], input = ''): ExecResult {
    const [program = '', ...args] = argv;
    const result = this.within(host, () => spawnSync(program, args, { input, encoding: 'utf8', maxBuffer: 1 << 28 }));
    if (result.error) throw new Error(`${program} on ${host}: ${result.error.message}`, { cause: result.error });
    return { stdout: result.stdout, stderr: result.stderr, status: result.status ?? -1 };
  }

  /** Starts a program; it is killed at the latest when this process exits. */
  spawn(host: string, argv: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const [program = '', ...args] = argv;
    const child = this.within(host, () => spawn(program, args, options));
    const { pid } = child;
    if (pid !== undefined) {
      endAtExit(pid);
      child.once('exit', () => hasEnded(pid));
    }
    return child;
  }

  /** Ends the hosts' processes and removes the namespaces. Programs started with spawn are the caller's. */
  async close(): Promise<void> {
    await Promise.all([...this.#hosts.values()].map((host) => host.stop()));
    removeNamespaces([...this.#hosts.keys()]);
  }
}

function check(specs: readonly HostSpec[]): void {
  const names = new Set(['node', 'remote']);
  for (const { name, ip } of specs) {
    if (!/^[a-z0-9-]{1,10}$/.test(name)) throw new RangeError(`host name "${name}": 1 to 10 of a-z, 0-9, "-"`);
    if (names.has(name)) throw new RangeError(`host name "${name}" is taken`);
    if (new Set(ip.map(familyOf)).size !== ip.length) throw new RangeError(`host ${name}: two addresses of one family`);
    names.add(name);
  }
}

/** Creates the network; one at a time in a process. Await namespacesMissing first. */
export async function createNetwork(options: NetworkOptions = {}): Promise<Network> {
  const pods = options.pods ?? [];
  const clients = options.clients ?? [];
  check([...pods, ...clients]);
  const nodeIps = [...NODE_IPS, ...(options.moreNodeIps ?? [])];
  const roles = ['node', 'remote', ...pods.map((p) => p.name), ...clients.map((c) => c.name)];
  try {
    createNamespaces(roles);
    for (const role of roles) {
      const routes = role === 'node' || role === 'remote';
      within(role, () => sysctl(routes ? { ...SYSCTLS, ...FORWARDING } : SYSCTLS));
    }
    const remote = namespaceName('remote');
    const lanHosts = ['node', ...clients.map((c) => c.name)];
    ipBatch([
      ...lanHosts.map(
        (name) => `link add lan-${name} netns ${remote} type veth peer name eth0 netns ${namespaceName(name)}`,
      ),
      ...pods.map((pod) => {
        const router = namespaceName(pod.local ? 'node' : 'remote');
        const near = `link add ${podInterface(pod.name)} address ${ROUTER_MAC} netns ${router}`;
        return `${near} type veth peer name eth0 netns ${namespaceName(pod.name)}`;
      }),
    ]);
    ipBatch(
      [
        'link set lo up',
        'link add eth0 type bridge',
        'link set eth0 up',
        ...lanHosts.map((name) => `link set lan-${name} master eth0 up`),
        ...REMOTE_IPS.map((ip) => nodad(onLan(ip))),
        'route add prohibit default',
        'route add prohibit ::/0',
        ...routerLines(pods, false, NODE_IPS),
      ],
      'remote',
    );
    const lanLines = (ips: readonly string[], router: readonly string[]): string[] => [
      'link set lo up',
      'link set eth0 up',
      ...ips.map((ip) => nodad(onLan(ip))),
      ...FAMILIES.filter((family) => ofFamily(ips, family)).map((f) => `route add default via ${ofFamily(router, f)}`),
    ];
    ipBatch([...lanLines(nodeIps, REMOTE_IPS), ...routerLines(pods, true, REMOTE_IPS)], 'node');
    for (const pod of pods) ipBatch(podLines(pod), pod.name);
    for (const client of clients) ipBatch(lanLines(client.ip, NODE_IPS), client.name);
  } catch (error) {
    removeNamespaces(roles);
    throw error;
  }
  return new Network([
    new Host('node', nodeIps),
    new Host('remote', REMOTE_IPS),
    ...[...pods, ...clients].map(({ name, ip }) => new Host(name, ip)),
  ]);
}
