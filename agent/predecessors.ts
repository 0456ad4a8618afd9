// Removes what another mode's proxy left on this node (P-5), once our own rules are complete: while both sets of rules
// exist, either translates to valid endpoints, and connections go on.
import { NO_EVENTS } from '../backends/backend.ts';
import { createBackend } from './backend.ts';
import type { ProxyMode } from './config/types.ts';
import type { Log } from './log.ts';

/** Modes that can have left something behind. */
const OTHERS: Readonly<Record<ProxyMode, readonly ProxyMode[]>> = {
  nftables: ['iptables', 'ipvs'],
  iptables: ['nftables', 'ipvs'],
  ipvs: ['nftables', 'iptables'],
};

/** Packets that entered the old chains before our rules were complete have left them after this long. */
const GRACE_MS = 100;

/** Errors are only logged. */
export async function removePredecessors(mode: ProxyMode, log: Log): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, GRACE_MS));
  for (const other of OTHERS[mode]) {
    const backend = createBackend(other, NO_EVENTS, null);
    try {
      const removed = await backend.cleanup(mode);
      if (removed.length > 0) log.info('removed the rules of another mode', { mode: other, removed });
    } catch (err) {
      log.warn('cannot remove the rules of another mode', { mode: other, err });
    } finally {
      await backend.close();
    }
  }
}
