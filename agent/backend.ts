// The backend of a mode.
import type { Backend, BackendEvents } from '../backends/backend.ts';
import { openIptables } from '../backends/iptables/open.ts';
import { NftablesBackend } from '../backends/nftables/backend.ts';
import type { ProxyMode } from './config/types.ts';

/** @throws Error when the mode does not exist in this version. */
export function createBackend(mode: ProxyMode, events: BackendEvents): Backend {
  if (mode === 'nftables') return new NftablesBackend({ events });
  if (mode === 'iptables') return openIptables(events);
  throw new Error(`mode ${mode} does not exist yet: use iptables or nftables`);
}
