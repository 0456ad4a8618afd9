// Puts the iptables backend together for this node: which variant of iptables it uses, and who writes the rules.
import { FAMILIES } from '../../native/ip.ts';
import { NetlinkError } from '../../native/netlink/error.ts';
import type { BackendEvents } from '../backend.ts';
import { IptablesBackend, type IptablesCallbacks, type IptablesMachinery } from './backend.ts';
import { CanaryWatch } from './canary-watch.ts';
import { removeProxyRules } from './cleanup.ts';
import { detectVariant, forcedBy } from './detect.ts';
import { leave } from './leave.ts';
import { NetlinkRules } from './netlink-rules.ts';
import { createCounters } from './nfacct.ts';
import { setRouteLocalnet } from './route-localnet.ts';
import type { RuleWriter } from './rule-writer.ts';
import { watchRules } from './rules-watch.ts';
import type { Variant } from './run-tool.ts';
import { ToolRules } from './tool-rules.ts';

/** @throws Error when both variants are in use and nobody says which one to take. */
async function openMachinery(callbacks: IptablesCallbacks): Promise<IptablesMachinery> {
  const { events } = callbacks;
  const forced = forcedBy(process.env);
  const netlink = new NetlinkRules();
  try {
    const { variant, reason, mix, leftovers } = await detectVariant({ nft: netlink.nft, forced: forced.variant });
    if (mix !== null) throw new Error(`${mix}; KUBEPLUMB_IPTABLES_VARIANT=nft or =legacy decides`);
    events.note(`iptables rules go to iptables-${variant}: ${reason}`);
    const nfacct = createCounters();
    const removeLeftovers = leftovers ? () => leaveVariant(variant === 'nft' ? 'legacy' : 'nft', events) : null;
    const tool = forced.writer === 'tool' ? 'as configured' : variant === 'nft' ? await refusal(netlink) : '';
    if (tool === null) return { writer: netlink, nfacct, watch: watchRules(netlink, callbacks), removeLeftovers };
    if (variant === 'nft') events.note(`iptables rules are written by the tool: ${tool}`);
    netlink.close();
    const writer = new ToolRules({ variant });
    return { writer, nfacct, watch: new CanaryWatch({ ...callbacks, writer }), removeLeftovers };
  } catch (error) {
    netlink.close();
    if (!(error instanceof NetlinkError) || error.code !== 'EPERM') throw error;
    const needed = 'this needs CAP_NET_ADMIN in the network namespace of the node';
    throw new Error(`not permitted to change iptables rules: ${needed}`, { cause: error });
  }
}

/** Why the kernel refuses rules over netlink in every family; null when it does not. */
async function refusal(netlink: NetlinkRules): Promise<string | null> {
  const reasons: string[] = [];
  for (const family of FAMILIES) {
    const reason = await netlink.probe(family);
    if (reason === null) return null;
    reasons.push(`${family}: ${reason}`);
  }
  return reasons.join('; ');
}

/** Removes what a proxy left in the other variant, once the rules in this one are complete. */
async function leaveVariant(variant: Variant, events: BackendEvents): Promise<void> {
  const writer: RuleWriter = variant === 'nft' ? new NetlinkRules() : new ToolRules({ variant });
  try {
    const { removed, problems } = await leave(writer, FAMILIES);
    if (removed.length > 0) events.note(`removed the rules of a proxy from iptables-${variant}: ${removed.join('; ')}`);
    for (const problem of problems) events.error('cannot remove rules of a proxy', new Error(problem));
  } catch (error) {
    events.error(`cannot remove rules of a proxy from iptables-${variant}`, error);
  } finally {
    writer.close();
  }
}

export function openIptables(events: BackendEvents): IptablesBackend {
  return new IptablesBackend({
    events,
    open: openMachinery,
    prepare: setRouteLocalnet,
    cleanup: (successor) => removeProxyRules(successor?.mode ?? null),
  });
}
