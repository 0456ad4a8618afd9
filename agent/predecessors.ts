// Removes what another mode's proxy left on this node (P-5), once our own rules are complete: while both sets of rules
// exist, either translates to valid endpoints, and connections go on.
import { type Backend, NO_EVENTS } from '../backends/backend.ts';
import { createBackend } from './backend.ts';
import type { Config, ProxyMode } from './config/types.ts';
import type { Log } from './log.ts';
import type { NodeAddresses } from './plan/node-addresses.ts';
import { isLoopback } from './state/fields.ts';

/** Modes that can have left something behind. */
const OTHERS: Readonly<Record<ProxyMode, readonly ProxyMode[]>> = {
  nftables: ['iptables', 'ipvs'],
  iptables: ['nftables', 'ipvs'],
  ipvs: ['nftables', 'iptables'],
};

/** Packets that entered the old chains before our rules were complete have left them after this long. */
const GRACE_MS = 100;

/** Errors are only logged. */
export async function removePredecessors(config: Config, addresses: NodeAddresses, log: Log): Promise<void> {
  const { mode } = config;
  const known = (ip: string): string | null => (isLoopback(ip) ? null : ip);
  const nodeIps = { IPv4: known(addresses.IPv4), IPv6: known(addresses.IPv6) };
  await new Promise((resolve) => setTimeout(resolve, GRACE_MS));
  for (const other of OTHERS[mode]) {
    let backend: Backend | null = null;
    try {
      backend = createBackend(other, NO_EVENTS, config);
      const removed = await backend.cleanup({ mode, nodeIps });
      if (removed.length > 0) log.info('removed the rules of another mode', { mode: other, removed });
    } catch (err) {
      log.warn('cannot remove the rules of another mode', { mode: other, err });
    } finally {
      await backend?.close();
    }
  }
}
