// Puts the IPVS backend together for this node.
import type { IpvsConnection } from '../../native/ipvs/connection.ts';
import { readRealServers } from '../../native/ipvs/proc.ts';
import { NftConnection } from '../../native/nftables/connection.ts';
import { NFT_MSG } from '../../native/nftables/constants.ts';
import { RouteWriter } from '../../native/route/writer.ts';
import type { BackendEvents } from '../backend.ts';
import { DriftWatch } from '../drift-watch.ts';
import { Committer } from '../nft-table/committer.ts';
import { IpvsBackend, type IpvsCallbacks, type IpvsMachinery } from './backend.ts';
import { BoundAddresses } from './bound-addresses.ts';
import { cleanup } from './cleanup.ts';
import { COMPANION } from './companion-schema.ts';
import { CompanionTables } from './companion-tables.ts';
import { Forwarding } from './forwarding.ts';
import { dumpKernel } from './kernel-dump.ts';
import { openConnection, probeKernel } from './probe.ts';
import type { IpvsSettings } from './settings.ts';
import { setIpvsSysctls } from './sysctls.ts';
import { VirtualServers } from './virtual-servers.ts';

const POLL_MS = 100;

export interface IpvsOptions {
  readonly events: BackendEvents;
  readonly settings: IpvsSettings;
  /** How often the kernel is compared with what was applied, in milliseconds; null: never. */
  readonly checkMs: number | null;
  /** How often drained real servers are removed, in milliseconds; once a minute unless given. */
  readonly tickMs?: number;
}

export function openIpvs({ events, settings, checkMs, tickMs }: IpvsOptions): IpvsBackend {
  return new IpvsBackend({
    events,
    settings,
    checkMs,
    ...(tickMs !== undefined && { tickMs }),
    open: (callbacks) => openMachinery(settings, callbacks),
    probe: () => probeKernel(settings.scheduler),
    prepare: () => prepare(settings, events),
    dumpKernel,
    cleanup: (successor) => cleanup(settings.excludeCidrs, successor),
  });
}

/** V-4, V-5. */
function prepare(settings: IpvsSettings, events: BackendEvents): void {
  const written = setIpvsSysctls(settings);
  if (written.length > 0) events.note(`set ${written.join(', ')}`);
  const { tcpTimeoutSeconds: tcp, tcpFinTimeoutSeconds: tcpFin, udpTimeoutSeconds: udp } = settings;
  if (tcp + tcpFin + udp === 0) return;
  const ipvs = openConnection();
  try {
    ipvs.setTimeouts({ tcp, tcpFin, udp });
  } catch (error) {
    events.error('cannot set the timeouts of IPVS', error);
  } finally {
    ipvs.close();
  }
}

function openMachinery(settings: IpvsSettings, callbacks: IpvsCallbacks): IpvsMachinery {
  const ipvs: IpvsConnection = openConnection();
  const route = new RouteWriter();
  const nft = new NftConnection();
  const committer = new Committer(nft, COMPANION.name);
  const forwarding = new Forwarding({ events: callbacks.events });
  const watch = new DriftWatch({
    portId: nft.socket.portId,
    pollMs: POLL_MS,
    exclusively: callbacks.exclusively,
    concern: ({ type, table }) =>
      table === COMPANION.name ? 'touched' : table === 'kube-proxy' && type !== NFT_MSG.delTable ? 'rival' : null,
    generation: () => nft.generation(),
    expected: committer,
    rival: 'kube-proxy is writing its nftables table on this node: two service proxies must not run side by side',
    repair: callbacks.repairCompanion,
    events: callbacks.events,
  });
  return {
    servers: new VirtualServers({ ipvs, readRealServers, settings, nowMs: () => performance.now() }),
    addresses: new BoundAddresses(route),
    companion: new CompanionTables(nft, committer),
    openForward: (settings) => forwarding.converge(settings),
    watch: {
      start: () => {
        committer.expectedGeneration = nft.generation();
        watch.start();
      },
      stop: () => watch.stop(),
    },
    close: () => {
      for (const connection of [ipvs, route, nft, forwarding]) connection.close();
    },
  };
}
