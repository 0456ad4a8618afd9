// Node ports on the loopback address need packets from 127.0.0.0/8 to leave the loopback interface (S-54, I-60). The
// kubelet's guard in KUBE-FIREWALL and ours keep others from reaching loopback addresses then.
import { readSysctl, type SysctlFiles, writeSysctl } from '../../native/sysctl.ts';
import type { NodeSettings } from '../service-plan.ts';

const PATH = 'net/ipv4/conf/all/route_localnet';

/**
 * Sets it to 1 when loopback node ports are effective and it is anything else; never resets it.
 * @returns whether it was written. @throws Error that names the sysctl.
 */
export function setRouteLocalnet(settings: NodeSettings, files?: SysctlFiles): boolean {
  if (!settings.families.IPv4?.localhostNodePorts) return false;
  try {
    if (readSysctl(PATH, files) === '1') return false;
    writeSysctl(PATH, '1', files);
    return true;
  } catch (error) {
    throw new Error(`node ports on loopback addresses: ${(error as Error).message}`, { cause: error });
  }
}
