// Notices foreign changes to iptables rules of the nft family. Anything in our chains is repaired; when somebody deletes
// a rule of a built-in chain, only the jumps are looked at.
import type { Family } from '../../native/ip.ts';
import { NFT_MSG } from '../../native/nftables/constants.ts';
import { DriftWatch } from '../drift-watch.ts';
import type { Concern, ForeignChange } from '../ruleset-monitor.ts';
import type { IptablesCallbacks } from './backend.ts';
import { BUILT_IN_CHAINS } from './built-in.ts';
import { JUMPS } from './fixed-rules.ts';
import type { NetlinkRules } from './netlink-rules.ts';
import { isOurChain } from './proxy-rules.ts';
import { readChain } from './read.ts';
import { ruleKey, TABLES, type Table } from './rule.ts';

const POLL_MS = 100;

/** What somebody else's change means to us. */
export function concernOf({ type, table, chain }: ForeignChange): Concern {
  if (!TABLES.includes(table as Table)) return null;
  if (type === NFT_MSG.delTable) return 'touched';
  if (chain === '') return null;
  if (isOurChain(table as Table, chain)) return 'touched';
  const takes = type === NFT_MSG.delRule || type === NFT_MSG.delChain;
  return takes && BUILT_IN_CHAINS[table as Table].has(chain) ? 'check' : null;
}

/** Whether a jump of ours is missing in these families. */
async function jumpIsMissing(rules: NetlinkRules, families: readonly Family[]): Promise<boolean> {
  for (const family of families) {
    for (const { table, from, rule } of JUMPS) {
      const key = ruleKey(rule);
      const listed = await readChain(rules.nft, family, table, from);
      if (!listed.some((l) => l.rule !== null && ruleKey(l.rule) === key)) return true;
    }
  }
  return false;
}

export function watchRules(
  rules: NetlinkRules,
  { exclusively, repair, families, events }: IptablesCallbacks,
): DriftWatch {
  return new DriftWatch({
    portId: rules.nft.socket.portId,
    pollMs: POLL_MS,
    exclusively,
    concern: concernOf,
    generation: () => rules.nft.generation(),
    expected: rules,
    check: () => jumpIsMissing(rules, families()),
    repair,
    events,
    rival: '', // it writes the same chains: what it does differently is found as drift
  });
}
