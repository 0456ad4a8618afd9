// Rules as the kernel holds them now, whoever wrote them.
import { dumpKernel } from '../../backends/nftables/kernel-dump.ts';
import type { NodeSettings } from '../../backends/service-plan.ts';
import { NftConnection } from '../../native/nftables/connection.ts';
import { describeError } from '../log.ts';
import { CommandError } from './command.ts';

/** With `settings` the rules that follow from them are printed as nft does. @throws CommandError when not permitted */
export async function kernelRules(settings: NodeSettings, service?: string): Promise<string> {
  let nft: NftConnection | null = null;
  try {
    nft = new NftConnection();
    return await dumpKernel(nft, settings, service);
  } catch (err) {
    const hint = process.getuid?.() === 0 ? '' : ' (it needs root)';
    throw new CommandError(`cannot read the rules of the kernel${hint}: ${describeError(err)}`, { cause: err });
  } finally {
    nft?.close();
  }
}
