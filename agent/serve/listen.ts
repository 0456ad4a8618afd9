// Opens HTTP servers: listening as a promise, and addresses as kube-proxy understands them.
import type { Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ipBytes } from '../../native/ip.ts';

export interface ListenOptions {
  host?: string;
  port: number;
  ipv6Only?: boolean;
}

/** Resolves with the port when the server listens; rejects with the system's error, the server is closed then. */
export function listen(server: Server, options: ListenOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error) => {
      server.close();
      reject(error);
    };
    server.once('error', failed);
    server.listen(options, () => {
      server.off('error', failed);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

/** Stops listening at once and ends open connections. */
export function close(server: Server): void {
  server.close();
  server.closeAllConnections();
}

/** P-45: an unspecified address of either family means all addresses of both (where the host has both). */
export function hostOption(ip: string): { host?: string } {
  const bytes = ipBytes(ip);
  return bytes !== null && /^\0+$/.test(bytes) ? {} : { host: ip };
}

/** Answers with all of a text at once: with its length, as kube-proxy does. */
export function send(
  response: ServerResponse,
  status: number,
  headers: Readonly<Record<string, string>>,
  text: string,
): void {
  response.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(text) }).end(text);
}
