// Kernel settings without which IPVS and its masquerading do not work (V-4, I-60).
import { release } from 'node:os';
import { readSysctl, type SysctlFiles, writeSysctl } from '../../native/sysctl.ts';

const ALWAYS: readonly (readonly [string, string])[] = [
  // Packets of IPVS get conntrack entries, so that they can be masqueraded.
  ['net/ipv4/vs/conntrack', '1'],
  // Connections to real servers that were removed end with their next packet.
  ['net/ipv4/vs/expire_nodest_conn', '1'],
  // Session affinity does not keep a leaving real server in use (V-21).
  ['net/ipv4/vs/expire_quiescent_template', '1'],
  ['net/ipv4/ip_forward', '1'],
];

const STRICT_ARP: readonly (readonly [string, string])[] = [
  ['net/ipv4/conf/all/arp_ignore', '1'],
  ['net/ipv4/conf/all/arp_announce', '2'],
];

/** Kernels before 5.9 send new connections from a port that was just used to a leaving real server, or delay them. */
const NO_REUSE: readonly (readonly [string, string])[] = [['net/ipv4/vs/conn_reuse_mode', '0']];

function delaysReuse(kernel: string): boolean {
  const [major = 0, minor = 0] = kernel.split('.').map((part) => Number.parseInt(part, 10));
  const version = major * 1000 + minor;
  return version >= 4001 && version < 5009;
}

/**
 * Writes those that have another value.
 * @returns what was written, as `path=value`. @throws Error that names the setting.
 */
export function setIpvsSysctls(
  { strictArp, kernel = release() }: { readonly strictArp: boolean; readonly kernel?: string },
  files?: SysctlFiles,
): string[] {
  const written: string[] = [];
  for (const [path, value] of [...ALWAYS, ...(delaysReuse(kernel) ? NO_REUSE : []), ...(strictArp ? STRICT_ARP : [])]) {
    if (readSysctl(path, files) === value) continue;
    writeSysctl(path, value, files);
    written.push(`${path}=${value}`);
  }
  return written;
}
