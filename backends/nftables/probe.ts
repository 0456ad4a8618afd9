// Can this kernel hold the table? Tried in one transaction that creates every kind of object and deletes it again.
import { readFileSync } from 'node:fs';
import type { Family } from '../../native/ip.ts';
import { NftConnection } from '../../native/nftables/connection.ts';
import type { NodeSettings } from '../service-plan.ts';
import { actionChain } from './action-chains.ts';
import { PREFIXES } from './actions.ts';
import { fixedChains } from './fixed-chains.ts';
import { BASE_CHAINS, SET_NAMES, SETS, TABLE_USERDATA } from './schema.ts';

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
  const batch = nft.batch('kubeplumb-probe');
  batch.addTable(family, TABLE_USERDATA);
  for (const set of SET_NAMES) batch.addSet(family, SETS[family][set]);
  const chains = fixedChains(family, settings);
  for (const prefix of PREFIXES) {
    for (const affinitySeconds of [null, 1]) {
      chains.set(
        `probe-${prefix}-${affinitySeconds}`,
        actionChain(family, settings, { prefix, count: 1, affinitySeconds }),
      );
    }
  }
  for (const chain of chains.keys()) batch.addChain(family, chain, BASE_CHAINS.get(chain));
  for (const [chain, rules] of chains) for (const rule of rules) batch.addRule(family, chain, rule.expressions);
  batch.deleteTable(family);
  const result = await nft.commit(batch);
  if (result.outcome === 'committed') return;
  if (result.outcome === 'refused' && result.refusals.some((r) => r.code === 'EPERM')) {
    throw new Error('not permitted to change nftables: this needs CAP_NET_ADMIN in the network namespace of the node');
  }
  const reason = result.outcome === 'refused' ? result.refusals.map((r) => r.message).join('; ') : 'no reply';
  throw new Error(`this kernel cannot hold the nftables rules: ${reason}`);
}
