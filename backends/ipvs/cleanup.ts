// Removes what a proxy in ipvs mode has left: the interface with the addresses of Services, companion tables, virtual
// servers, and kube-proxy's iptables rules and ipsets (V-57).
import { cidrContains, FAMILIES, type Family, familyOf, parseCidr } from '../../native/ip.ts';
import { IpvsConnection } from '../../native/ipvs/connection.ts';
import type { VirtualServer } from '../../native/ipvs/objects.ts';
import { realServerReader } from '../../native/ipvs/proc.ts';
import { NftConnection } from '../../native/nftables/connection.ts';
import { RouteWriter } from '../../native/route/writer.ts';
import { noCounts, type Successor } from '../backend.ts';
import { removeProxyRules } from '../iptables/cleanup.ts';
import { Committer } from '../nft-table/committer.ts';
import { COMPANION } from './companion-schema.ts';
import { IPVS_DEVICE, isLinkLocal } from './device.ts';

/**
 * Where neither interface nor tables of such a proxy are, IPVS is not loaded: its virtual servers are somebody else's.
 * @param excludeCidrs Virtual servers in these ranges stay (V-13). @param successor Its iptables rules stay, and
 * connections that it takes over are spared. @returns what was removed, in words
 */
export async function cleanup(excludeCidrs: readonly string[], successor: Successor | null): Promise<string[]> {
  const excluded = excludeCidrs.flatMap((text) => parseCidr(text) ?? []);
  const isOurs: IsOurs = ({ ip }) => !excluded.some((cidr) => cidrContains(cidr, ip));
  const nft = new NftConnection();
  try {
    const removed = await removeDevice(isOurs, successor);
    const tables = nft.tables().filter(({ name }) => name === COMPANION.name);
    // The tables go last: where only part could be removed, they still tell the next attempt whose the rest is.
    if (removed.length > 0 || tables.length > 0) removed.push(...(await removeServers(isOurs)));
    removed.push(...(await removeTables(nft, tables)));
    return [...removed, ...(await removeProxyRules(successor?.mode ?? null))];
  } finally {
    nft.close();
  }
}

type IsOurs = (server: VirtualServer) => boolean;

/** How long connections may take that began through IPVS while another mode took over. */
const LONGEST_WAIT_MS = 10_000;
const LOOK_MS = 100;
/** For those that IPVS does not count as active: dialling, or just ending. */
const GRACE_MS = 1000;

/** New connections are the other mode's; those that go on for long are cut. */
async function connectionsToEnd(isOurs: IsOurs): Promise<void> {
  const ipvs = IpvsConnection.open();
  const until = performance.now() + LONGEST_WAIT_MS;
  try {
    while (ipvs && (await hasActive(ipvs, isOurs)) && performance.now() < until) await pause(LOOK_MS);
  } finally {
    ipvs?.close();
  }
  await pause(GRACE_MS);
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function hasActive(ipvs: IpvsConnection, isOurs: IsOurs): Promise<boolean> {
  const servers = (await ipvs.servers()).filter(isOurs);
  const realServers = realServerReader(ipvs, servers.length);
  return servers.some((server) => realServers(server).some(({ active }) => active > 0));
}

async function removeDevice(isOurs: IsOurs, successor: Successor | null): Promise<string[]> {
  const route = new RouteWriter();
  try {
    const index = route.linkIndex(IPVS_DEVICE);
    if (index === null) return [];
    const ips = route.addresses(index).flatMap(({ ip }) => (isLinkLocal(ip) ? [] : [ip]));
    if (successor !== null) {
      await useNodeIps(route, index, ips, successor);
      await connectionsToEnd(isOurs);
    }
    if (!route.deleteLink(IPVS_DEVICE)) return [];
    if (successor !== null) await route.deleteSources(ips.filter((ip) => familyOf(ip) === 'IPv6'));
    return [`interface ${IPVS_DEVICE}`];
  } finally {
    route.close();
  }
}

/**
 * A connection of the node to an address of its own has this address as source too, and would end with it. From now on new
 * ones have the node's IP, as they will have without the interface; a route that cannot be set leaves things as they were.
 */
async function useNodeIps(
  route: RouteWriter,
  index: number,
  ips: readonly string[],
  { nodeIps }: Successor,
): Promise<void> {
  for (const family of FAMILIES) {
    const source = nodeIps[family];
    if (source === null) continue;
    await route.setSources(
      index,
      ips.filter((ip) => familyOf(ip) === family),
      source,
    );
  }
}

async function removeTables(nft: NftConnection, present: readonly { family: Family }[]): Promise<string[]> {
  const families = FAMILIES.filter((family) => present.some((table) => table.family === family));
  await new Committer(nft, COMPANION.name).commit(noCounts(), (batch) => {
    for (const family of families) batch.deleteTable(family);
  });
  return families.map((family) => `nftables table ${family === 'IPv4' ? 'ip' : 'ip6'} ${COMPANION.name}`);
}

async function removeServers(isOurs: IsOurs): Promise<string[]> {
  const ipvs = IpvsConnection.open();
  if (ipvs === null) return [];
  try {
    const servers = (await ipvs.servers()).filter(isOurs);
    const failures = await ipvs.apply(servers.map((server) => ({ command: 'deleteServer', server })));
    const failure = failures.find(({ error }) => error.code !== 'ESRCH');
    if (failure) throw failure.error;
    return servers.length > 0 ? [`${servers.length} virtual servers of IPVS`] : [];
  } finally {
    ipvs.close();
  }
}
