// What nf_tables answers: objects as the kernel has them, and what became of a batch.
import type { Family } from '../ip.ts';
import type { Expression } from './expression.ts';

export interface Refusal {
  readonly errno: number;
  readonly code: string;
  /** What was refused, in words: object and the kernel's text. */
  readonly message: string;
  readonly family: Family | null;
  /** Set and key of the element at fault, when the kernel says. */
  readonly set: string | null;
  readonly key: string | null;
  /** Which message of the batch, counted from 0 as in Batch.subjects; null when the refusal is about all of it. */
  readonly index: number | null;
}

export type CommitResult =
  /** Handles of the rules that were added with `echo`, by message of the batch. */
  | { readonly outcome: 'committed'; readonly handles: ReadonlyMap<number, number> }
  | { readonly outcome: 'refused'; readonly refusals: readonly Refusal[] }
  /** No or not all replies arrived: compare the generation. */
  | { readonly outcome: 'unknown' };

export interface KernelChain {
  readonly name: string;
  /** hook, priority, type as `type:hook:priority`, or '' for a regular chain. */
  readonly base: string;
}

/** A base chain of any family. */
export interface KernelBaseChain extends KernelChain {
  /** NFPROTO of its table: 1 for inet, which is both families of IP. */
  readonly protocol: number;
  readonly table: string;
  /** A packet that no rule decides about is dropped. */
  readonly drops: boolean;
}

export interface KernelRule {
  readonly handle: number;
  readonly expressions: readonly Expression[];
}

export interface KernelSet {
  readonly name: string;
  readonly flags: number;
  readonly keyType: number;
  readonly keyLength: number;
  readonly dataType: number | undefined;
  readonly dataLength: number | undefined;
  readonly userdata: string;
}
