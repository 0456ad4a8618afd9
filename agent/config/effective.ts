// The Config from a valid document: chooses the values of the mode (P-34) and renames to the agent's words.
import { parseCidr } from '../../native/ip.ts';
import type { FlagOptions } from './flag-table.ts';
import type { Config, DetectLocalMode, KubeProxyConfiguration, ProxyMode } from './types.ts';

export interface EffectiveOptions {
  options: FlagOptions;
  clusterCidrs: readonly string[];
  minSyncPeriodExplicit: boolean;
  logFormatChosen: boolean;
}

/** `document` must have passed `validate`. */
export function effective(document: KubeProxyConfiguration, extra: EffectiveOptions): Config {
  const mode = document.mode as ProxyMode;
  const { clientConnection, conntrack, ipvs, logging } = document;
  const masquerade = mode === 'nftables' ? document.nftables : document.iptables;
  const { options } = extra;
  return {
    mode,
    hostnameOverride: document.hostnameOverride,
    kubeconfig: clientConnection.kubeconfig || null,
    master: options.master || null,
    apiServers: options.apiServers,
    client: {
      contentType: clientConnection.contentType,
      acceptContentTypes: clientConnection.acceptContentTypes,
      qps: clientConnection.qps,
      burst: clientConnection.burst,
    },
    bindAddress: document.bindAddress,
    healthzBindAddress: document.healthzBindAddress,
    metricsBindAddress: document.metricsBindAddress,
    bindAddressHardFail: document.bindAddressHardFail,
    profiling: document.enableProfiling,
    showHiddenMetricsForVersion: document.showHiddenMetricsForVersion,
    syncPeriodMs: document[mode].syncPeriod,
    minSyncPeriodMs: document[mode].minSyncPeriod,
    minSyncPeriodExplicit: extra.minSyncPeriodExplicit,
    configSyncPeriodMs: document.configSyncPeriod,
    masqueradeAll: masquerade.masqueradeAll,
    masqueradeBit: masquerade.masqueradeBit,
    localhostNodePorts: document.iptables.localhostNodePorts,
    ipvs: {
      scheduler: ipvs.scheduler,
      excludeCidrs: ipvs.excludeCIDRs.map(canonical),
      strictArp: ipvs.strictARP,
      tcpTimeoutMs: ipvs.tcpTimeout,
      tcpFinTimeoutMs: ipvs.tcpFinTimeout,
      udpTimeoutMs: ipvs.udpTimeout,
      drainLimitMs: options.ipvsDrainLimit,
    },
    detectLocalMode: document.detectLocalMode as DetectLocalMode,
    bridgeInterface: document.detectLocal.bridgeInterface,
    interfaceNamePrefix: document.detectLocal.interfaceNamePrefix,
    clusterCidrs: extra.clusterCidrs.map(canonical),
    nodePortAddresses: document.nodePortAddresses.map(canonical),
    oomScoreAdj: document.oomScoreAdj,
    conntrack: {
      maxPerCore: conntrack.maxPerCore,
      min: conntrack.min,
      tcpEstablishedTimeoutMs: conntrack.tcpEstablishedTimeout,
      tcpCloseWaitTimeoutMs: conntrack.tcpCloseWaitTimeout,
      tcpBeLiberal: conntrack.tcpBeLiberal,
      udpTimeoutMs: conntrack.udpTimeout,
      udpStreamTimeoutMs: conntrack.udpStreamTimeout,
    },
    featureGates: document.featureGates,
    logging: {
      format: logging.format === 'json' ? 'json' : 'text',
      formatChosen: extra.logFormatChosen,
      flushFrequencyMs: logging.flushFrequency,
      verbosity: logging.verbosity,
      vmodule: logging.vmodule,
      options: logging.options,
    },
    configFile: options.config || null,
    writeConfigTo: options.writeConfigTo || null,
    cleanup: options.cleanup,
    initOnly: options.initOnly,
    manifests: options.manifests,
    socket: options.socket,
    document,
  };
}

function canonical(cidr: string): string {
  return parseCidr(cidr)?.text ?? cidr;
}
