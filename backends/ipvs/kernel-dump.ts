// What the kernel holds of ipvs mode now, whoever wrote it, as text.
import { FAMILIES, type Family, ipText } from '../../native/ip.ts';
import type { IpvsConnection } from '../../native/ipvs/connection.ts';
import { socketText } from '../../native/ipvs/objects.ts';
import { realServerReader } from '../../native/ipvs/proc.ts';
import type { Element } from '../../native/nftables/batch.ts';
import { NftConnection } from '../../native/nftables/connection.ts';
import { RouteWriter } from '../../native/route/writer.ts';
import { addressLength, PROTOCOL_NUMBER, portNumber } from '../nft-table/fields.ts';
import type { NodeSettings } from '../service-plan.ts';
import { type CompanionElements, kernelCompanionParts, readCompanion } from './companion.ts';
import { IPVS_DEVICE, isLinkLocal } from './device.ts';
import { type Belongings, dumpParts, viewOf } from './dump-text.ts';
import { openConnection } from './probe.ts';

/**
 * Rules that follow from `settings` are printed as nft does, others as their expressions. With `service`
 * (`namespace/name`) only what elements whose comments name it lead to: virtual servers do not tell whose they are.
 */
export async function dumpKernel(settings: NodeSettings | null, service?: string): Promise<string> {
  const nft = new NftConnection();
  const route = new RouteWriter();
  let ipvs: IpvsConnection | null = null;
  try {
    ipvs = openConnection();
    const { tables } = await readCompanion(nft, FAMILIES);
    const text: string[] = [];
    const own: Belongings[] = [];
    for (const [family, table] of tables) {
      const elements = service === undefined ? undefined : elementsOfService(table.elements, service);
      if (elements) own.push(belongings(family, elements));
      if (elements?.size === 0) continue;
      if (text.length > 0) text.push('\n');
      text.push(...kernelCompanionParts(family, table, settings, elements));
    }
    const listed = await ipvs.servers();
    const realServers = realServerReader(ipvs, listed.length);
    const servers = listed.map((server) => ({ server, realServers: realServers(server) }));
    const index = route.linkIndex(IPVS_DEVICE);
    const addresses = index === null ? null : route.addresses(index).flatMap(({ ip }) => (isLinkLocal(ip) ? [] : [ip]));
    const view = { servers, addresses };
    return [...dumpParts(service === undefined ? view : viewOf(view, own), text)].join('');
  } finally {
    for (const connection of [ipvs, route, nft]) connection?.close();
  }
}

function elementsOfService(elements: CompanionElements, service: string): CompanionElements {
  const isIts = ({ comment }: Element): boolean => comment === service || comment?.startsWith(`${service}:`) === true;
  const own: CompanionElements = new Map();
  for (const [set, list] of elements) {
    const its = [...list].filter(([, element]) => isIts(element));
    if (its.length > 0) own.set(set, new Map(its));
  }
  return own;
}

/** Frontends are keys of sets; a node port is one of any address. */
function belongings(family: Family, elements: CompanionElements): Belongings {
  const length = addressLength(family);
  const servers = new Set<string>();
  const nodePorts = new Set<string>();
  const addresses = new Set<string>();
  for (const set of ['cluster', 'masq', 'direct'] as const) {
    for (const key of elements.get(set)?.keys() ?? []) {
      const ip = ipText(key.slice(0, length));
      addresses.add(ip);
      servers.add(`${protocolName(key.charCodeAt(length))} ${socketText(ip, portNumber(key.slice(length + 4)))}`);
    }
  }
  for (const key of elements.get('node-masq')?.keys() ?? [])
    nodePorts.add(`${protocolName(key.charCodeAt(0))} ${portNumber(key.slice(4))}`);
  const nodePort = (key: string): string => `${key.split(' ')[0]} ${key.slice(key.lastIndexOf(':') + 1)}`;
  return { addresses, servers: { has: (key) => servers.has(key) || nodePorts.has(nodePort(key)) } };
}

const protocolName = (number: number): string =>
  Object.entries(PROTOCOL_NUMBER).find(([, value]) => value === number)?.[0] ?? String(number);
