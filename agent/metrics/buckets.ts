// Upper limits of histogram buckets, in seconds or bytes; kube-proxy's, so that its dashboards and alerts fit.

/** Of syncs (P-80: H1): 1 ms doubled up to 16 s. */
export const SYNC_BUCKETS: readonly number[] = Array.from({ length: 15 }, (_, k) => 2 ** k / 1000);

const steps = (from: number, to: number, step: number): number[] =>
  Array.from({ length: (to - from) / step + 1 }, (_, i) => from + i * step);

/** Of the time from a change in the cluster to the rules (P-81). */
export const PROGRAMMING_BUCKETS: readonly number[] = [
  ...[0, 0.25, 0.5],
  ...steps(1, 59, 1),
  ...steps(60, 115, 5),
  ...steps(120, 300, 30),
];

/** Of requests to the API server. */
export const REQUEST_BUCKETS: readonly number[] = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60];
export const SIZE_BUCKETS: readonly number[] = [64, 256, 512, ...steps(10, 24, 2).map((k) => 2 ** k)];
