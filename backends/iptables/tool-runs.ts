// Changes in several runs of the tool. The nft variant of iptables-restore compares each chain it is given with all it
// was given before, so that a run takes time with the square of its chains.
import type { ChainContent, ChainPlace, RuleChanges } from './rule-changes.ts';

/** About a hundred Services of five endpoints, the best size there is. */
export const CHAINS_PER_RUN = 600;

/**
 * Parts to be written one after another, each of `most` chains unless a group has more. What chains lead to is there
 * before them, and rules of shared chains change when all is there that they lead to.
 */
export function* inRuns(changes: RuleChanges, most: number): Generator<RuleChanges> {
  const { family, content = [], deleteChains = [], ...rest } = changes;
  const { tables = [], ...last } = rest;
  let first: Pick<RuleChanges, 'tables'> = { tables };
  let part: (readonly ChainContent[])[] = [];
  let size = 0;
  for (const group of content) {
    if (size > 0 && size + group.length > most) {
      yield { family, ...first, content: part };
      [first, part, size] = [{}, [], 0];
    }
    part.push(group);
    size += group.length;
  }
  const whole = size + deleteChains.length <= most;
  yield { family, ...first, ...last, content: part, deleteChains: whole ? deleteChains : [] };
  if (whole) return;
  // Emptied in the run that removes it: a chain that must stay, because others lead to it, stays whole.
  const places = deleteChains.toSorted((a, b) => rank(a) - rank(b));
  for (let at = 0; at < places.length; at += most) yield { family, deleteChains: places.slice(at, at + most) };
}

/** Chains lead only to those of later names, and to others (I-12 to I-20). */
const ORDER = ['SERVICES', 'NODEPORTS', 'FW-', 'EXT-', 'SVC-', 'SVL-', 'SEP-'].map((name) => `KUBE-${name}`);

function rank({ chain }: ChainPlace): number {
  const at = ORDER.findIndex((name) => chain.startsWith(name));
  return at < 0 ? ORDER.length : at;
}
