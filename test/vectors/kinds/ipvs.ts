// virtual servers, bound addresses and set elements for a state of the cluster.
//
// The vectors speak of kube-proxy's ipsets. The sets of the companion table hold the same facts otherwise:
//   cluster    KUBE-CLUSTER-IP
//   masq       KUBE-EXTERNAL-IP, and KUBE-LOAD-BALANCER without KUBE-LOAD-BALANCER-LOCAL
//   direct     KUBE-EXTERNAL-IP-LOCAL, KUBE-LOAD-BALANCER-LOCAL
//   node-masq  KUBE-NODE-PORT-* without KUBE-NODE-PORT-LOCAL-*: protocol and port, the address of SCTP ones left out
//   limited    KUBE-LOAD-BALANCER-FW
//   sources    KUBE-LOAD-BALANCER-SOURCE-CIDR, KUBE-LOAD-BALANCER-SOURCE-IP, as merged ranges
//   hairpin    KUBE-LOOP-BACK
//   health     KUBE-HEALTH-CHECK-NODE-PORT
//   vips       KUBE-IPVS-IPS
import assert from 'node:assert/strict';
import { COMPANION_SETS, type CompanionSet } from '../../../backends/ipvs/companion-schema.ts';
import { serviceObjects } from '../../../backends/ipvs/service-objects.ts';
import { DEFAULT_SCHEDULER } from '../../../backends/ipvs/settings.ts';
import { fieldsText } from '../../../backends/nft-table/fields.ts';
import { allowedSources } from '../../../backends/nft-table/keys.ts';
import type { Family } from '../../../native/ip.ts';
import type { Element } from '../../../native/nftables/batch.ts';
import { clusterOf } from '../../support/vector-cluster.ts';
import { sameSet, type Vector } from '../vector.ts';

/** Longest name of an ipset. */
const IPSET_NAME = 31;

export async function run({ input, expect }: Vector): Promise<void> {
  const { settings, planner, config } = clusterOf(input, 'ipvs');
  const family: Family = input.family;
  const plans = (await planner.all()).filter((plan) => plan.family === family);
  const scheduler = config.ipvs.scheduler || DEFAULT_SCHEDULER;
  const objects = plans.map((plan) => serviceObjects(plan, settings, { scheduler }));
  const found = objects.flatMap(({ servers }) => [...servers.values()]);
  sameSet(
    found.map(({ server, endpoints }) => ({
      address: server.ip,
      port: server.port,
      protocol: server.protocol,
      scheduler: server.scheduler,
      flags: server.flags,
      timeout: server.timeoutSeconds,
      realServers: endpoints.map(({ key }) => key).sort(),
    })),
    expect.virtualServers.map((server: { realServers: string[] }) => ({
      ...server,
      realServers: [...server.realServers].sort(),
    })),
    'virtual servers',
  );
  sameSet([...new Set(objects.flatMap(({ addresses }) => [...addresses]))], expect.boundAddresses, 'bound addresses');
  const expected = companionSets(expect.ipsets, family);
  for (const set of Object.keys(COMPANION_SETS) as CompanionSet[]) {
    const elements = new Map(objects.flatMap((own) => [...(own.elements.get(set) ?? [])]));
    const lines = [...elements.values()].map((element) => elementLine(set, element, family));
    sameSet(lines, expected[set], `set ${set}`);
  }
}

/** Fields by blanks; a range by its last key, too. */
function elementLine(set: CompanionSet, { key, keyEnd }: Element, family: Family): string {
  const text = (bytes: string) => fieldsText(bytes, COMPANION_SETS[set], family).join(' ');
  return keyEnd === undefined ? text(key) : `${text(key)} - ${text(keyEnd)}`;
}

function companionSets(ipsets: Record<string, string[]>, family: Family): Record<CompanionSet, string[]> {
  const left = new Map(Object.entries(ipsets));
  /** Takes the entries of a set, `ip,protocol:port[,ip or net]`, as words. */
  const take = (name: string): string[] => {
    const full = family === 'IPv4' ? `KUBE-${name}` : `KUBE-6-${name}`.slice(0, IPSET_NAME);
    const entries = (left.get(full) ?? []).map((entry) =>
      entry.replaceAll(/[,]|(?<=tcp|udp|sctp):/g, ' ').replaceAll(/\/(32|128)$/g, ''),
    );
    left.delete(full);
    return entries;
  };
  const without = (all: string[], some: string[]): string[] => all.filter((entry) => !some.includes(entry));
  const directVips = take('LOAD-BALANCER-LOCAL');
  const nodePorts = ['TCP', 'UDP', 'SCTP-HASH'].flatMap((kind) => {
    const protocol = kind.slice(0, kind.indexOf('-') < 0 ? undefined : kind.indexOf('-')).toLowerCase();
    const ports = (name: string) => take(name).map((entry) => `${protocol} ${entry.split(' ').at(-1)}`);
    return without(ports(`NODE-PORT-${kind}`), ports(`NODE-PORT-LOCAL-${kind}`));
  });
  const sets: Record<CompanionSet, string[]> = {
    cluster: take('CLUSTER-IP'),
    masq: [...take('EXTERNAL-IP'), ...without(take('LOAD-BALANCER'), directVips)],
    direct: [...take('EXTERNAL-IP-LOCAL'), ...directVips],
    'node-masq': [...new Set(nodePorts)],
    limited: take('LOAD-BALANCER-FW'),
    sources: sources([...take('LOAD-BALANCER-SOURCE-CIDR'), ...take('LOAD-BALANCER-SOURCE-IP')], family),
    hairpin: take('LOOP-BACK').map((entry) => {
      const [ip, protocol, port, again] = entry.split(' ');
      return [ip, again, protocol, port].join(' ');
    }),
    health: take('HEALTH-CHECK-NODE-PORT'),
    vips: take('IPVS-IPS'),
  };
  assert.deepEqual([...left.keys()], [], 'sets that nothing corresponds to');
  return sets;
}

/** The ranges of each address, protocol and port merged, as lines. */
function sources(entries: readonly string[], family: Family): string[] {
  const ranges = new Map<string, string[]>();
  for (const entry of entries) {
    const [ip, protocol, port, source] = entry.split(' ');
    const frontend = `${ip} ${protocol} ${port}`;
    const cidr = source!.includes('/') ? source! : `${source}/${family === 'IPv4' ? 32 : 128}`;
    ranges.set(frontend, [...(ranges.get(frontend) ?? []), cidr]);
  }
  return [...ranges].flatMap(([frontend, cidrs]) =>
    allowedSources('', cidrs, []).map(({ key, keyEnd }) => {
      const text = (bytes: string) => `${frontend} ${fieldsText(bytes, ['saddr'], family)}`;
      return `${text(key)} - ${text(keyEnd!)}`;
    }),
  );
}
