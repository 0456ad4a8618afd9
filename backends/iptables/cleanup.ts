// Removes the iptables rules of proxies in both variants, ours and kube-proxy's (I-57, V-57), and then the ipsets that
// kube-proxy's rules in ipvs mode refer to.
import { FAMILIES } from '../../native/ip.ts';
import { destroySets, type SetRemoval, setsPossible } from '../../native/ipset.ts';
import type { Mode } from '../backend.ts';
import { leave } from './leave.ts';
import { NetlinkRules } from './netlink-rules.ts';
import { IPSETS, leftoversBeside } from './proxy-rules.ts';
import type { RuleWriter } from './rule-writer.ts';
import { legacyTables, ToolRules } from './tool-rules.ts';

/** The kernel lets go of sets some time after the rules that refer to them. */
const SET_ATTEMPTS = 20;
const SET_PAUSE_MS = 50;

/**
 * A legacy table that does not exist is not looked at, since that would create it.
 * @param staying The mode that works on this node: what it has, or may have, stays.
 * @returns what was removed, in words. @throws Error that tells what could not be removed; the rest is gone
 */
export async function removeProxyRules(staying: Mode | null): Promise<string[]> {
  const removed: string[] = [];
  const problems: string[] = [];
  const used = FAMILIES.some((family) => legacyTables(family).length > 0);
  for (const variant of used ? (['nft', 'legacy'] as const) : (['nft'] as const)) {
    const writer: RuleWriter = variant === 'nft' ? new NetlinkRules() : new ToolRules({ variant });
    try {
      const departure = await leave(writer, FAMILIES, leftoversBeside(staying));
      removed.push(...departure.removed);
      problems.push(...departure.problems);
    } finally {
      writer.close();
    }
  }
  const sets = await removeSets();
  if (sets.removed.length > 0) removed.push(`${sets.removed.length} ipsets`);
  for (const [name, reason] of sets.busy) problems.push(`ipset ${name} stays: ${reason}`);
  if (problems.length > 0) throw new Error(problems.join('; '));
  return removed;
}

async function removeSets(): Promise<SetRemoval> {
  const removed: string[] = [];
  let names = IPSETS;
  for (let attempt = 1; setsPossible(); attempt++) {
    const result = destroySets(names);
    removed.push(...result.removed);
    if (result.busy.size === 0 || attempt >= SET_ATTEMPTS) return { removed, busy: result.busy };
    names = [...result.busy.keys()];
    await new Promise((resolve) => setTimeout(resolve, SET_PAUSE_MS));
  }
  return { removed, busy: new Map() };
}
