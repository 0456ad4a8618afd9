// A companion table with an element in every set.

import type { CompanionElements } from '../../backends/ipvs/companion.ts';
import { COMPANION, type CompanionSet } from '../../backends/ipvs/companion-schema.ts';
import { allowedSources, frontendKey, hairpinKey, portKey, protocolPortKey } from '../../backends/nft-table/keys.ts';
import type { Protocol } from '../../backends/service-plan.ts';
import { type Family, ipBytes } from '../../native/ip.ts';
import type { Element } from '../../native/nftables/batch.ts';
import { endpoint, portPlan } from './plans.ts';

/** Addresses of a family that tests use. */
export const ADDRESSES = {
  IPv4: {
    cluster: '10.96.0.1',
    otherCluster: '10.96.0.2',
    external: '198.18.9.1',
    loadBalancer: '198.18.0.2',
    limited: '198.18.0.3',
    pod: '10.128.4.30',
    node: '192.0.2.11',
    loopback: '127.0.0.1',
    ranges: ['203.0.113.0/25', '192.0.2.7/32', '198.51.100.1/32', '198.51.100.2/31'],
    allowed: '203.0.113.9',
  },
  IPv6: {
    cluster: 'fd00:10:96::1',
    otherCluster: 'fd00:10:96::2',
    external: '2001:db8:9::1',
    loadBalancer: '2001:db8:18::2',
    limited: '2001:db8:18::3',
    pod: 'fd00:10:128:4::1e',
    node: '2001:db8:aa::11',
    loopback: '::1',
    ranges: ['2001:db8:113::/64', '2001:db8:7::7/128', '2001:db8:51::1/128', '2001:db8:51::2/127'],
    allowed: '2001:db8:113::9',
  },
} as const satisfies Record<Family, unknown>;

/** The key of an address, a protocol and a port. */
export const keyOf = (family: Family, ip: string, port: number, protocol: Protocol = 'UDP'): string =>
  frontendKey(family, portPlan({ protocol }), { kind: 'clusterIP', ip, port });

/** UDP 80 on every address, UDP 81 on the other cluster IP, node port 30001, health check port 31000. */
export function companionElements(family: Family): CompanionElements {
  const at = ADDRESSES[family];
  const { cluster, otherCluster, external, loadBalancer, limited } = at;
  const udp = (ip: string, port = 80): Element => ({ key: keyOf(family, ip, port), comment: 'shop/web:dns' });
  const keys = (...list: string[]): Element[] => list.map((key) => ({ key }));
  const limitedKey = keyOf(family, limited, 80);
  const lists: Record<CompanionSet, readonly Element[]> = {
    vips: keys(...[cluster, otherCluster, external, loadBalancer, limited].map((ip) => ipBytes(ip)!)),
    cluster: [udp(cluster), udp(otherCluster, 81), { key: keyOf(family, cluster, 443, 'TCP'), comment: 'shop/web' }],
    masq: [udp(external)],
    direct: [udp(loadBalancer), udp(limited)],
    'node-masq': keys(protocolPortKey('UDP', 30_001), protocolPortKey('SCTP', 30_002)),
    limited: [udp(limited)],
    sources: allowedSources(limitedKey, at.ranges, [limited]),
    hairpin: keys(hairpinKey(endpoint(at.pod, 8080, true), 'UDP')),
    health: keys(portKey(31_000)),
  };
  return new Map(COMPANION.setNames.map((set) => [set, new Map(lists[set].map((e) => [e.key, e]))]));
}
