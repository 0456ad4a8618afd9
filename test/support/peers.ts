// Programs of Kubernetes to test against, where there are any: in the folder KUBEPLUMB_PEERS, or packed beside the project.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export type Peer = 'kube-proxy' | 'kube-apiserver' | 'etcd';

const UNPACK = fileURLToPath(new URL('../../../shared/peers/unpack', import.meta.url));
const UNPACKED = join(tmpdir(), `kubeplumb-peers-${process.getuid?.() ?? 0}`);

/** Paths of the programs, or why there are none. */
export function findPeers<P extends Peer>(names: readonly P[]): Record<P, string> | string {
  const folder = process.env.KUBEPLUMB_PEERS ?? unpacked();
  if (folder === null) return 'no programs of Kubernetes to test against (folder KUBEPLUMB_PEERS)';
  const missing = names.filter((name) => !existsSync(join(folder, name)));
  if (missing.length > 0) return `no ${missing.join(', ')} in ${folder}`;
  return Object.fromEntries(names.map((name) => [name, join(folder, name)])) as Record<P, string>;
}

/** Unpacks once; several tests may want to at the same time. */
function unpacked(): string | null {
  if (existsSync(UNPACKED)) return UNPACKED;
  if (!existsSync(UNPACK)) return null;
  const folder = mkdtempSync(`${UNPACKED}-`);
  try {
    if (spawnSync(UNPACK, [folder], { stdio: 'ignore' }).status !== 0) return null;
    renameSync(folder, UNPACKED);
    return UNPACKED;
  } catch {
    return existsSync(UNPACKED) ? UNPACKED : null;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
