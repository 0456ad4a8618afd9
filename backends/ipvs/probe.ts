// Can this kernel do IPVS, with the scheduler asked for, and hold the companion tables (V-1, V-2)?
import { IpvsConnection } from '../../native/ipvs/connection.ts';
import type { VirtualServer } from '../../native/ipvs/objects.ts';
import { NetlinkError } from '../../native/netlink/error.ts';
import { probeCompanion } from './companion.ts';

/** An address for documentation (RFC 5737): nobody serves it. */
const TRIAL = { family: 'IPv4', protocol: 'TCP', ip: '198.51.100.0', port: 20000 } as const;

/** @throws Error when this kernel has no IPVS. */
export function openConnection(): IpvsConnection {
  const ipvs = IpvsConnection.open();
  if (ipvs) return ipvs;
  throw new Error('this kernel has no IPVS (module ip_vs): load it on the host, or use another --proxy-mode');
}

/** @throws Error with the reason why mode ipvs cannot be used. */
export async function probeKernel(scheduler: string): Promise<void> {
  const ipvs = openConnection();
  try {
    await probeScheduler(ipvs, scheduler);
  } catch (error) {
    if (!(error instanceof NetlinkError) || error.code !== 'EPERM') throw error;
    const needed = 'this needs CAP_NET_ADMIN in the initial user namespace';
    throw new Error(`not permitted to change IPVS: ${needed}`, { cause: error });
  } finally {
    ipvs.close();
  }
  await probeCompanion();
}

async function probeScheduler(ipvs: IpvsConnection, scheduler: string): Promise<void> {
  if ((await ipvs.servers()).some((server) => server.scheduler === scheduler)) return;
  const trial: VirtualServer = { ...TRIAL, scheduler, flags: 0, timeoutSeconds: 0 };
  const [failure] = await ipvs.apply([{ command: 'newServer', server: trial }]);
  if (failure?.error.code === 'ENOENT')
    throw new Error(`this kernel has no IPVS scheduler ${scheduler} (module ip_vs_${scheduler})`);
  if (failure && failure.error.code !== 'EEXIST') throw failure.error;
  // Without IPVS in the kernel a command can look like a success.
  const listed = (await ipvs.servers()).length > 0;
  await ipvs.apply([{ command: 'deleteServer', server: trial }]);
  if (!listed) throw new Error('this kernel accepts virtual servers of IPVS but does not keep them');
}
