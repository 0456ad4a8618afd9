// The Node to its IPs (P-14).
import assert from 'node:assert/strict';
import { nodeAddresses } from '../../../agent/plan/node-addresses.ts';
import { parseNode } from '../../../agent/state/objects.ts';
import type { Vector } from '../vector.ts';

export function run({ input, expect }: Vector): void {
  const node = input.node === null ? null : parseNode(input.node).object;
  assert.deepEqual(nodeAddresses({ node, bindAddress: input.bindAddress }), expect);
}
