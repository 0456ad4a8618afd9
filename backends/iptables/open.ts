// Puts the iptables backend together for this node.
import type { BackendEvents } from '../backend.ts';
import { IptablesBackend, type IptablesCallbacks, type IptablesMachinery } from './backend.ts';
import { NetlinkRules } from './netlink-rules.ts';
import { watchRules } from './rules-watch.ts';

async function openMachinery(callbacks: IptablesCallbacks): Promise<IptablesMachinery> {
  const writer = new NetlinkRules();
  return { writer, nfacct: [], watch: watchRules(writer, callbacks) };
}

export function openIptables(events: BackendEvents): IptablesBackend {
  return new IptablesBackend({ events, open: openMachinery, prepare: () => {}, cleanup: async () => [] });
}
