// Before the first sync: the own Node must be known, as far as it ever will be.
import type { Config } from './config/types.ts';
import type { Log } from './log.ts';
import type { State } from './state/state.ts';
import { type Clock, systemClock } from './sync/clock.ts';

/** Wait for the Node to have an address (P-10), and then in mode NodeCIDR for its pod CIDRs (P-11). */
const NODE_WAIT_MS = 30_000;
const POD_CIDR_WAIT_MS = 300_000;
const NODE_POLL_MS = 100;

export interface WaitOptions {
  readonly config: Pick<Config, 'detectLocalMode'>;
  readonly log: Log;
  readonly stop: AbortSignal;
  readonly clock?: Clock;
}

/** Returns when the Node is known as far as needed, or the wait for it is over, or `stop` is aborted. @throws Error when it has no pod CIDRs (P-11). */
export async function waitForNode(
  state: Pick<State, 'node' | 'nodeName'>,
  { config, log, stop, clock = systemClock }: WaitOptions,
): Promise<void> {
  const waitFor = async (holds: () => boolean, limitMs: number): Promise<boolean> => {
    const endMs = clock.monotonicMs() + limitMs;
    while (!holds() && clock.monotonicMs() < endMs && !stop.aborted)
      await new Promise<void>((resolve) => clock.after(NODE_POLL_MS, resolve));
    return holds() || stop.aborted;
  };
  const node = state.nodeName;
  if (!(await waitFor(() => (state.node?.addresses.length ?? 0) > 0, NODE_WAIT_MS)))
    log.warn('this Node has no IP address; going on with 127.0.0.1', { node });
  if (config.detectLocalMode !== 'NodeCIDR') return;
  if (!(await waitFor(() => (state.node?.podCidrs.length ?? 0) > 0, POD_CIDR_WAIT_MS)))
    throw new Error(`Node ${node} has no spec.podCIDRs, which detectLocalMode NodeCIDR needs`);
}
