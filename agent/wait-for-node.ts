// Before the first sync: the own Node must be known, as far as it ever will be.
import type { Config } from './config/types.ts';
import type { Log } from './log.ts';
import type { State } from './state/state.ts';

/** Wait for the Node to have an address (P-10), and in mode NodeCIDR for its pod CIDRs (P-11). */
const NODE_WAIT_MS = 30_000;
const POD_CIDR_WAIT_MS = 300_000;
const NODE_POLL_MS = 100;

/** Returns when the Node is known as far as needed, or the wait for it is over, or `stop` is aborted. @throws Error when it has no pod CIDRs (P-11). */
export async function waitForNode(
  state: State,
  { config, log, stop }: { config: Config; log: Log; stop: AbortSignal },
): Promise<void> {
  const began = performance.now();
  const waited = (): number => performance.now() - began;
  const hasAddress = (): boolean => (state.node?.addresses.length ?? 0) > 0;
  while (!hasAddress() && waited() < NODE_WAIT_MS && !stop.aborted) await pause();
  if (!hasAddress() && !stop.aborted)
    log.warn('this Node has no IP address; going on with 127.0.0.1', { node: state.nodeName });
  if (config.detectLocalMode !== 'NodeCIDR') return;
  while ((state.node?.podCidrs.length ?? 0) === 0 && !stop.aborted) {
    if (waited() > POD_CIDR_WAIT_MS)
      throw new Error(`Node ${state.nodeName} has no spec.podCIDRs, which detectLocalMode NodeCIDR needs`);
    await pause();
  }
}

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, NODE_POLL_MS));
