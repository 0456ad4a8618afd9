// The setting and the host's addresses to those that serve node ports (S-50, S-51, S-54).
import assert from 'node:assert/strict';
import { nodeAddresses } from '../../../agent/plan/node-addresses.ts';
import { nodePortAddresses, resolvePrimary } from '../../../agent/plan/nodeport-addresses.ts';
import { parseNode } from '../../../agent/state/objects.ts';
import { canonicalIP, FAMILIES } from '../../../native/ip.ts';
import type { Vector } from '../vector.ts';

export function run({ input, expect }: Vector): void {
  const node = input.node === null ? null : parseNode(input.node).object;
  const own = nodeAddresses({ node, bindAddress: input.bindAddress ?? '' });
  const setting = resolvePrimary(input.nodePortAddresses, own);
  const interfaces = input.interfaces.map((device: { name: string; addresses: string[] }) => ({
    name: device.name,
    addresses: device.addresses.map((address) => canonicalIP(address.split('/')[0]!)!),
  }));
  for (const family of FAMILIES) {
    const { served, ...actual } = nodePortAddresses({ mode: input.mode, family, setting, interfaces });
    const sorted = expect[family].addresses === null ? null : [...expect[family].addresses].sort();
    assert.deepEqual(actual, { ...expect[family], addresses: sorted }, family);
  }
}
