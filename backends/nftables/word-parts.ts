// Pieces of rules about words: they travel from map to map in the packet's skb priority.
import { META, REG_VERDICT, reg } from '../../native/nftables/constants.ts';
import type { Expression } from '../../native/nftables/expression.ts';
import { lookup, type Piece } from '../nft-table/rule-parts.ts';
import type { SetName } from './schema.ts';

export const WORD_BIT = 0x80000000;
/** Clears the slot (13 bits) of an affinity word. */
export const SID_MASK = 0xffffe000;

export const loadPriority = (register: number): Expression => ({
  name: 'meta',
  key: META.priority,
  dreg: reg(register),
});
export const setPriority: Expression = { name: 'metaSet', key: META.priority, sreg: reg(0) };
export const goto = (set: SetName, register: number): Expression => lookup(set, register, REG_VERDICT);
/** A word that a lookup left in R0 → skb priority → the chain it stands for. */
export const followWord = (actions: SetName): Piece => [setPriority, loadPriority(0), goto(actions, 0)];
