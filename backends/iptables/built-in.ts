// The built-in chains that jumps of ours start from, exactly as iptables-nft declares them: one that is different makes
// every iptables command call the table incompatible.
import type { BaseChain } from '../../native/nftables/batch.ts';
import type { Table } from './rule.ts';

const PRIORITY = { dstnat: -100, filter: 0, srcnat: 100 } as const;
const HOOK = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const;

/** Policies are left alone: that of an existing chain belongs to whoever set it. */
function base(type: BaseChain['type'], hook: number, priority: number): BaseChain {
  return { type, hook, priority, keepPolicy: true };
}

export const BUILT_IN_CHAINS: Readonly<Record<Table, ReadonlyMap<string, BaseChain>>> = {
  nat: new Map([
    ['PREROUTING', base('nat', HOOK.prerouting, PRIORITY.dstnat)],
    ['OUTPUT', base('nat', HOOK.output, PRIORITY.dstnat)],
    ['POSTROUTING', base('nat', HOOK.postrouting, PRIORITY.srcnat)],
  ]),
  filter: new Map([
    ['INPUT', base('filter', HOOK.input, PRIORITY.filter)],
    ['FORWARD', base('filter', HOOK.forward, PRIORITY.filter)],
    ['OUTPUT', base('filter', HOOK.output, PRIORITY.filter)],
  ]),
  // The canary needs a table and nothing else.
  mangle: new Map(),
};
