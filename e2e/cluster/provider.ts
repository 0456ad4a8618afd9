// How a run gets its cluster: one provider a run, one cluster for each mode.
import type { Cluster, ProxyMode } from './cluster.ts';

export interface Provider {
  /** What the runs are with; null: as the cluster is. */
  readonly runs: readonly (ProxyMode | null)[];
  /** What is missing on this machine, with the way to get it; empty when the suite can run. Changes nothing. */
  missing(): Promise<string[]>;
  /** What a run would do, for people. */
  plan(): string[];
  /** A cluster in this mode, with nothing of former runs in it. The former one is closed. */
  open(mode: ProxyMode | null): Promise<Cluster>;
  /** Writes what is known of a cluster that did not open into a folder. Never throws. */
  collect(folder: string): Promise<void>;
  /** Removes what is left, also while a cluster is being opened. */
  close(): Promise<void>;
}
