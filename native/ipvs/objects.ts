// What IPVS knows: virtual servers and the real servers behind them.
import type { Family } from '../ip.ts';

export type TransportProtocol = 'TCP' | 'UDP' | 'SCTP';

/** Identifies a virtual server. */
export interface ServerId {
  readonly family: Family;
  readonly protocol: TransportProtocol;
  /** Canonical text. */
  readonly ip: string;
  readonly port: number;
}

export interface VirtualServer extends ServerId {
  /** Name of the scheduler, at most 15 characters. */
  readonly scheduler: string;
  /** SERVER_FLAG bits, without `hashed`. */
  readonly flags: number;
  /** Persistence in seconds, 0 without. */
  readonly timeoutSeconds: number;
}

/** A real server, reached by masquerading (NAT). `ip` and `port` identify it inside its virtual server (V-16). */
export interface RealServer {
  /** Canonical text. */
  readonly ip: string;
  readonly port: number;
  /** 0: no new connections. */
  readonly weight: number;
}

/** A real server as the kernel tells it. */
export interface RealServerState extends RealServer {
  /** Connections that are open, and those that are closing or without a state. */
  readonly active: number;
  readonly inactive: number;
}

/** IP_VS_SVC_F_*: `hashed` is set by the kernel, in every answer; the others are used by schedulers sh and mh. */
export const SERVER_FLAG = { persistent: 0x1, hashed: 0x2, onePacket: 0x4, fallback: 0x8, port: 0x10 } as const;

/** `10.0.0.1:80` or `[fd00::1]:80`. */
export const socketText = (ip: string, port: number): string =>
  ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;

/** Text that is equal for equal virtual servers: `TCP 10.96.0.1:80`. */
export const serverKey = ({ protocol, ip, port }: ServerId): string => `${protocol} ${socketText(ip, port)}`;
