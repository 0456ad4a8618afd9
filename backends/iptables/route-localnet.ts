// Node ports on the loopback address need packets from 127.0.0.0/8 to leave the loopback interface (S-54, I-60). The
// kubelet's guard in KUBE-FIREWALL and ours keep others from reaching loopback addresses then.
import { readFileSync, writeFileSync } from 'node:fs';
import type { NodeSettings } from '../service-plan.ts';

const NAME = 'net/ipv4/conf/all/route_localnet';
const FILE = `/proc/sys/${NAME}`;

export interface SysctlFiles {
  read(file: string): string;
  write(file: string, value: string): void;
}

const FILES: SysctlFiles = {
  read: (file) => readFileSync(file, 'utf8'),
  write: (file, value) => writeFileSync(file, value),
};

/**
 * Sets it to 1 when loopback node ports are effective and it is anything else; never resets it.
 * @returns whether it was written. @throws Error that names the sysctl.
 */
export function setRouteLocalnet(settings: NodeSettings, files: SysctlFiles = FILES): boolean {
  if (!settings.families.IPv4?.localhostNodePorts) return false;
  try {
    if (files.read(FILE).trim() === '1') return false;
    files.write(FILE, '1');
    return true;
  } catch (error) {
    const reason = (error as Error).message;
    throw new Error(`sysctl ${NAME.replaceAll('/', '.')}=1, for node ports on loopback addresses: ${reason}`, {
      cause: error,
    });
  }
}
