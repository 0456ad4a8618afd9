// CPUs and limits to nf_conntrack_max and its hash size (P-51, P-52).
import assert from 'node:assert/strict';
import { conntrackHashSize, conntrackMax } from '../../../agent/kernel-settings.ts';
import type { Vector } from '../vector.ts';

export function run({ input, expect }: Vector): void {
  const { maxPerCore, min, cpus, currentHashSize } = input;
  const nfConntrackMax = conntrackMax({ maxPerCore, min, cpus });
  const hashSize = conntrackHashSize(nfConntrackMax, currentHashSize);
  assert.deepEqual({ nfConntrackMax, hashSize }, expect);
}
