// What ipvs mode can be told, apart from what all modes share.

export interface IpvsSettings {
  /** Of all virtual servers; at most 15 characters (V-11). */
  readonly scheduler: string;
  /** Canonical CIDRs; virtual servers of others in them are left alone (V-13). */
  readonly excludeCidrs: readonly string[];
  /** Answer ARP on the interface that has the address only (V-55). */
  readonly strictArp: boolean;
  /** Of idle connections, in whole seconds; 0 leaves the kernel's (V-5). */
  readonly tcpTimeoutSeconds: number;
  readonly tcpFinTimeoutSeconds: number;
  readonly udpTimeoutSeconds: number;
  /** After this time a leaving real server goes although it has connections; null: it stays as long as it has any (V-20). */
  readonly drainLimitSeconds: number | null;
}

/** V-11. */
export const DEFAULT_SCHEDULER = 'rr';
