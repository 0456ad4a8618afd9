// The own Node and ServiceCIDRs reduced to what the agent needs, from untrusted JSON.
import { parseCidr } from '../../native/ip.ts';
import { asObject, isDnsSubdomain, type PerFamily, parseObject, readIP, readList, readObject } from './fields.ts';
import { type Parsed, show } from './problem.ts';

export interface Node {
  readonly name: string;
  /** '' when the label is missing (E-38). */
  readonly zone: string;
  /** Canonical, in listed order (S-64). */
  readonly podCidrs: readonly string[];
  /** Canonical, in listed order; other types are left out (P-14). */
  readonly addresses: readonly { readonly type: 'InternalIP' | 'ExternalIP'; readonly ip: string }[];
  /** It has a deletion timestamp (P-47). */
  readonly deleting: boolean;
  readonly taintKeys: readonly string[];
}

export interface ServiceCIDR {
  readonly name: string;
  /** Canonical. */
  readonly cidrs: PerFamily<readonly string[]>;
}

const ZONE_LABEL = 'topology.kubernetes.io/zone';

export function parseNode(raw: unknown): Parsed<Node> {
  return parseObject('Node', raw, isDnsSubdomain, (object, metadata, problems) => {
    const spec = readObject(problems, object.spec, 'spec');
    const zone = asObject(metadata.labels)?.[ZONE_LABEL];
    const podCidrs: string[] = [];
    for (const [i, value] of readList(problems, spec.podCIDRs, 'spec.podCIDRs').entries()) {
      const cidr = typeof value === 'string' ? parseCidr(value) : null;
      if (cidr === null) problems.add(`spec.podCIDRs[${i}]`, `${show(value)} is no CIDR`);
      else podCidrs.push(cidr.text);
    }
    const addresses: Node['addresses'][number][] = [];
    const status = readObject(problems, object.status, 'status');
    for (const [i, value] of readList(problems, status.addresses, 'status.addresses').entries()) {
      const { type, address } = readObject(problems, value, `status.addresses[${i}]`);
      if (type !== 'InternalIP' && type !== 'ExternalIP') continue;
      const ip = readIP(address);
      if (ip === null) problems.add(`status.addresses[${i}].address`, `${show(address)} is no IP address`);
      else addresses.push({ type, ip });
    }
    const taints = readList(problems, spec.taints, 'spec.taints').map((taint) => asObject(taint)?.key);
    return {
      name: metadata.name as string,
      zone: typeof zone === 'string' ? zone : '',
      podCidrs,
      addresses,
      deleting: metadata.deletionTimestamp !== undefined && metadata.deletionTimestamp !== null,
      taintKeys: taints.filter((key) => typeof key === 'string'),
    };
  });
}

export function parseServiceCIDR(raw: unknown): Parsed<ServiceCIDR> {
  return parseObject('ServiceCIDR', raw, isDnsSubdomain, (object, metadata, problems) => {
    const cidrs = { IPv4: [] as string[], IPv6: [] as string[] };
    const values = readList(problems, readObject(problems, object.spec, 'spec').cidrs, 'spec.cidrs');
    for (const [i, value] of values.entries()) {
      const cidr = typeof value === 'string' ? parseCidr(value) : null;
      if (cidr === null) problems.add(`spec.cidrs[${i}]`, `${show(value)} is no CIDR`);
      else cidrs[cidr.family].push(cidr.text);
    }
    return { name: metadata.name as string, cidrs };
  });
}
