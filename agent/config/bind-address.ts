// `IP`, `IP:port` and `[IPv6]:port`, as kube-proxy's bind addresses are written (P-38).
import { ipBytes } from '../../native/ip.ts';

export interface BindAddress {
  /** As written, without brackets. */
  ip: string;
  port: number;
}

/** Splits `IP:port`; null unless the IP is valid and the port within 1…65535. */
export function parseBindAddress(text: string): BindAddress | null {
  const match = /^(?:\[([^[\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const ip = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (ip === undefined || ipBytes(ip) === null || port < 1 || port > 65535) return null;
  return { ip, port };
}

/** Adds the port to a bare IP; anything else is returned unchanged. */
export function withDefaultPort(text: string, port: number): string {
  if (ipBytes(text) === null) return text;
  return text.includes(':') ? `[${text}]:${port}` : `${text}:${port}`;
}
