// Can this kernel hold the table? Tried in one transaction that creates every kind of object and deletes it again.
import { readFileSync } from 'node:fs';
import type { Family } from '../../native/ip.ts';
import { NftConnection } from '../../native/nftables/connection.ts';
import { probeTable } from '../nft-table/probe.ts';
import type { NodeSettings } from '../service-plan.ts';
import { actionChain } from './action-chains.ts';
import { PREFIXES } from './actions.ts';
import { fixedChains } from './fixed-chains.ts';
import { LAYOUT } from './schema.ts';

/** Oldest kernel, as kube-proxy has it (N-2). */
const MINIMUM_KERNEL = [5, 13] as const;
const SKIP_VERSION_CHECK = 'KUBE_PROXY_NFTABLES_SKIP_KERNEL_VERSION_CHECK';

/** @throws Error with the reason why this kernel cannot be used. */
export async function probeKernel(env: NodeJS.ProcessEnv = process.env): Promise<void> {
  if (!env[SKIP_VERSION_CHECK]) checkRelease(readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim());
  const nft = new NftConnection();
  try {
    for (const family of ['IPv4', 'IPv6'] as const) await probeFamily(nft, family);
  } finally {
    nft.close();
  }
}

/** @throws Error when `release` (such as `6.1.0-18-amd64`) is too old. */
export function checkRelease(release: string): void {
  const m = /^(\d+)\.(\d+)/.exec(release);
  const [major, minor] = MINIMUM_KERNEL;
  if (!m || Number(m[1]) > major || (Number(m[1]) === major && Number(m[2]) >= minor)) return;
  throw new Error(`kernel ${release} is older than ${major}.${minor}; set ${SKIP_VERSION_CHECK}=1 to try all the same`);
}

async function probeFamily(nft: NftConnection, family: Family): Promise<void> {
  const settings: NodeSettings = {
    masqueradeAll: false,
    masqueradeBit: 14,
    dropInvalid: false,
    families: {
      [family]: {
        detectLocal: { by: 'interfacePrefix', prefix: 'p' },
        nodePortAddresses: 'all',
        localhostNodePorts: false,
        hostAddresses: [],
        serviceCidrs: [],
      },
    },
  };
  const chains = fixedChains(family, settings);
  for (const prefix of PREFIXES) {
    for (const affinitySeconds of [null, 1]) {
      chains.set(
        `probe-${prefix}-${affinitySeconds}`,
        actionChain(family, settings, { prefix, count: 1, affinitySeconds }),
      );
    }
  }
  await probeTable(nft, LAYOUT, family, chains);
}
