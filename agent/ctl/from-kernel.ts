// Rules as the kernel holds them now, whoever wrote them.

import { NO_EVENTS } from '../../backends/backend.ts';
import { dumpKernel } from '../../backends/nftables/kernel-dump.ts';
import type { NodeSettings } from '../../backends/service-plan.ts';
import { NftConnection } from '../../native/nftables/connection.ts';
import { createBackend } from '../backend.ts';
import type { ProxyMode } from '../config/types.ts';
import { describeError } from '../log.ts';
import { CommandError } from './command.ts';

/** In mode nftables the rules that follow from `settings` are printed as nft does. @throws CommandError when not permitted */
export async function kernelRules(mode: ProxyMode, settings: NodeSettings, service?: string): Promise<string> {
  return mode === 'nftables' ? nftablesRules(settings, service) : rulesByBackend(mode, service);
}

function unreadable(err: unknown): CommandError {
  const hint = process.getuid?.() === 0 ? '' : ' (it needs root)';
  return new CommandError(`cannot read the rules of the kernel${hint}: ${describeError(err)}`, { cause: err });
}

async function rulesByBackend(mode: ProxyMode, service?: string): Promise<string> {
  const backend = createBackend(mode, NO_EVENTS, null);
  try {
    return await backend.dumpKernel(service);
  } catch (err) {
    throw unreadable(err);
  } finally {
    await backend.close();
  }
}

async function nftablesRules(settings: NodeSettings, service?: string): Promise<string> {
  let nft: NftConnection | null = null;
  try {
    nft = new NftConnection();
    return await dumpKernel(nft, settings, service);
  } catch (err) {
    throw unreadable(err);
  } finally {
    nft?.close();
  }
}
