// The backend of a mode.
import type { Backend, BackendEvents } from '../backends/backend.ts';
import { openIptables } from '../backends/iptables/open.ts';
import { openIpvs } from '../backends/ipvs/open.ts';
import { DEFAULT_SCHEDULER, type IpvsSettings } from '../backends/ipvs/settings.ts';
import { NftablesBackend } from '../backends/nftables/backend.ts';
import type { Config, ProxyMode } from './config/types.ts';

/** `config`: null where nothing but cleaning up and reading is asked for. */
export function createBackend(mode: ProxyMode, events: BackendEvents, config: Config | null): Backend {
  switch (mode) {
    case 'nftables':
      return new NftablesBackend({ events });
    case 'iptables':
      return openIptables(events);
    case 'ipvs':
      return openIpvs({ events, settings: ipvsSettings(config), checkMs: config?.syncPeriodMs ?? null });
  }
}

/** Defaults without a configuration. */
export function ipvsSettings(config: Config | null): IpvsSettings {
  const seconds = (ms: number | undefined): number => Math.floor((ms ?? 0) / 1000);
  const ipvs = config?.ipvs;
  return {
    scheduler: ipvs?.scheduler || DEFAULT_SCHEDULER,
    excludeCidrs: ipvs?.excludeCidrs ?? [],
    strictArp: ipvs?.strictArp ?? false,
    tcpTimeoutSeconds: seconds(ipvs?.tcpTimeoutMs),
    tcpFinTimeoutSeconds: seconds(ipvs?.tcpFinTimeoutMs),
    udpTimeoutSeconds: seconds(ipvs?.udpTimeoutMs),
    drainLimitSeconds: ipvs?.drainLimitMs ? seconds(ipvs.drainLimitMs) : null,
  };
}
