// Judges a soak with faults from what was recorded: memory, requests, health.
import type { AskedRequest } from '../test/support/api-server-process.ts';
import { median } from './statistics.ts';

export interface Sample {
  readonly atMs: number;
  readonly value: number;
}

/** Medians of the first and the last quarter of the time, and by how much the last is higher, in per cent. */
export function growth(samples: readonly Sample[], fromMs: number, toMs: number) {
  const quarter = (toMs - fromMs) / 4;
  const within = (from: number, to: number): number[] =>
    samples.filter(({ atMs }) => atMs >= from && atMs <= to).map(({ value }) => value);
  const first = median(within(fromMs, fromMs + quarter));
  const last = median(within(toMs - quarter, toMs));
  return { first, last, percent: (last / first - 1) * 100 };
}

export interface RequestCounts {
  readonly lists: number;
  readonly watches: number;
  readonly expired: number;
  /** At most so many requests can have been necessary. */
  readonly bound: number;
  /** Lists that neither a 410 nor the start, nor the interruption of the list before, made necessary. */
  readonly needless: number;
}

/** A list that takes longer than this is not counted as interrupted. */
const LIST_MS = 2000;
/** Between a request and the moment when its report is read; shorter than the wait after an interruption. */
const REPORT_MS = 100;

/**
 * Each kind begins with one list. A cut, or a kill, costs one request; a 410 costs another, which is a list. After an
 * interruption that hit an unfinished list, the request is that list again.
 */
export function countRequests(
  asked: readonly AskedRequest[],
  interruptions: readonly number[],
): Record<string, RequestCounts> {
  const kinds = new Map<string, AskedRequest[]>();
  for (const request of asked) kinds.set(request.kind, [...(kinds.get(request.kind) ?? []), request]);
  return Object.fromEntries([...kinds].map(([kind, requests]) => [kind, countKind(requests, interruptions)]));
}

function countKind(requests: readonly AskedRequest[], interruptions: readonly number[]): RequestCounts {
  const count = (what: AskedRequest['what']): number => requests.filter((r) => r.what === what).length;
  let needless = 0;
  for (const [i, request] of requests.entries()) {
    if (request.what !== 'list' || i === 0) continue;
    const before = requests[i - 1]!;
    const interrupted = interruptions.some((at) => at >= before.atMs - REPORT_MS && at <= before.atMs + LIST_MS);
    if (before.what !== 'expired' && !(before.what === 'list' && interrupted)) needless++;
  }
  const expired = count('expired');
  return {
    lists: count('list'),
    watches: count('watch'),
    expired,
    bound: 1 + interruptions.length + expired,
    needless,
  };
}

export interface Criterion {
  readonly what: string;
  readonly holds: boolean;
  readonly figures: string;
}

/** At most so much more memory in the last quarter than in the first, in per cent. */
const MOST_GROWTH = 10;

export function memoryCriterion(samples: readonly Sample[], fromMs: number, toMs: number): Criterion {
  const { first, last, percent } = growth(samples, fromMs, toMs);
  return {
    what: 'memory is flat',
    holds: last <= first * (1 + MOST_GROWTH / 100),
    figures: `first quarter ${first.toFixed(1)} MiB, last ${last.toFixed(1)} MiB: ${percent.toFixed(1)} %`,
  };
}

export function requestCriteria(
  asked: readonly AskedRequest[],
  interruptions: readonly number[],
  kinds: readonly string[],
): Criterion[] {
  const counts = countRequests(asked, interruptions);
  return kinds.map((kind) => {
    const { lists, watches, expired, bound, needless } = counts[kind] ?? countKind([], interruptions);
    const total = lists + watches + expired;
    return {
      what: `no relist storm: ${kind}`,
      // A run in which nothing was continued shows nothing.
      holds: needless === 0 && total <= bound && watches > lists,
      figures: `${lists} lists, ${watches} watches continued, ${expired} answered 410; ${total} requests of at most ${bound}, ${needless} needless lists`,
    };
  });
}
