// What the agent asks of a backend. Each of them programs plans into the kernel in its own way.
import type { Family } from '../native/ip.ts';
import type { NodeSettings, PlanChange, ServicePlan } from './service-plan.ts';

export type Mode = 'nftables' | 'iptables' | 'ipvs';

/** The proxy that works on a node when another mode's rules are removed from it. */
export interface Successor {
  readonly mode: Mode;
  /** The node's own IPs (P-14); null: none is known. */
  readonly nodeIps: Readonly<Record<Family, string | null>>;
}

/** Work done in the kernel. */
export interface SyncCounts {
  added: number;
  deleted: number;
  /** Objects other than elements: tables, chains, rules, sets. */
  objects: number;
  transactions: number;
  bytes: number;
}

export const noCounts = (): SyncCounts => ({ added: 0, deleted: 0, objects: 0, transactions: 0, bytes: 0 });

/** A Service the kernel refused; everything else was applied. */
export interface RefusedService {
  readonly service: string;
  readonly family: Family;
  readonly message: string;
}

export interface SyncResult {
  readonly counts: SyncCounts;
  readonly refused: readonly RefusedService[];
}

/** A difference between what was applied and what the kernel holds, found and repaired. */
export interface Drift {
  /** What was found, for the log. */
  readonly description: string;
  /** Name and id of the process that changed the rules, when the kernel says. */
  readonly culprit: string | null;
  readonly counts: SyncCounts;
}

/** iptables mode: rules of ours in one table, for metrics (P-81). */
export interface RuleFigures {
  readonly family: Family;
  readonly table: 'filter' | 'nat';
  readonly owned: number;
  /** By the last sync of the family. */
  readonly written: number;
}

/** Name of the condition that rules are not as they should be, and attempts to put them right fail. */
export const NOT_REPAIRED = 'RulesNotRepaired';

export interface BackendEvents {
  /** Something an operator may want to know, for the log. */
  note(message: string): void;
  drift(drift: Drift): void;
  /** A state an operator must know of, such as a second proxy at work; null when it has ended. */
  condition(name: string, message: string | null): void;
  /** A failure outside of any request; `cleanup`: what is no longer used could not be deleted. */
  error(message: string, error: unknown, kind?: 'cleanup'): void;
}

/** For work that is over before anything could be reported. */
export const NO_EVENTS: BackendEvents = { note() {}, drift() {}, condition() {}, error() {} };

export interface Backend {
  /** Is the kernel able? @throws Error with the reason when it is not. */
  probe(): Promise<void>;
  /** Families that this node cannot serve in this mode, with the reason; known after `probe`. Absent: there are none. */
  readonly unusable?: ReadonlyMap<Family, string>;
  /**
   * Sets what `start` needs and what needs more rights than the rest: sysctls. `start` does it as well. Absent where
   * there is no such thing. @throws Error that names the setting.
   */
  prepare?(settings: NodeSettings): void;
  /**
   * Reads the kernel, sends the difference to these plans, and takes over from predecessors. Plans come in the order of
   * their urgency; a Service must not occur twice in one family.
   */
  start(settings: NodeSettings, plans: readonly ServicePlan[]): Promise<SyncResult>;
  /** How long the kernel should be left alone after the last sync, in milliseconds; absent: not at all. */
  readonly restMs?: number;
  /** Applies changes of plans. @throws Error when the kernel refused for a reason that is no Service's fault. */
  sync(changes: readonly PlanChange[]): Promise<SyncResult>;
  /** Applies new settings of the node (node-port addresses, ServiceCIDRs). */
  configure(settings: NodeSettings): Promise<SyncResult>;
  /** Compares the kernel with what was applied and repairs the difference; null when there is none. */
  verify(): Promise<Drift | null>;
  /** Absent where there are no rules to count. */
  readonly ruleFigures?: () => RuleFigures[];
  /** What was applied, as text in the tool's own format; only one Service's with `service` (`namespace/name`). */
  dump(service?: string): string;
  /** The same in parts that take little time each; all tell the state of the moment when the first was taken. */
  dumpParts(service?: string): Iterable<string>;
  /** What the kernel holds now, as text in the same form. */
  dumpKernel(service?: string): Promise<string>;
  /**
   * Removes everything of ours, and what kube-proxy left in this mode. With a successor, nothing that its mode shares
   * with this one. @returns what was removed.
   */
  cleanup(successor?: Successor | null): Promise<string[]>;
  /** Stops watching and closes; the rules stay. */
  close(): Promise<void>;
}
