// Defaults of absent fields (P-32) and of the platform (P-33).
import { canonicalIP } from '../../native/ip.ts';
import { withDefaultPort } from './bind-address.ts';
import type { FileFields, KubeProxyConfiguration, LogFormatOptions } from './types.ts';

const SECOND = 1000;
const HOUR = 3600 * SECOND;

export const HEALTHZ_PORT = 10256;
export const METRICS_PORT = 10249;
export const DEFAULT_MIN_SYNC_PERIOD_MS = SECOND;

/** `||` on purpose where a zero value in the file means "use the default"; `??` where an explicit zero stays. */
export function withDefaults(file: FileFields): KubeProxyConfiguration {
  const bindAddress = file.bindAddress || '0.0.0.0';
  const ipv6 = canonicalIP(bindAddress)?.includes(':') ?? false;
  const { clientConnection: client, logging, iptables, ipvs, nftables, winkernel, detectLocal, conntrack } = file;
  const formatOptions = (given: Partial<LogFormatOptions> | undefined): LogFormatOptions => ({
    splitStream: given?.splitStream ?? false,
    infoBufferSize: given?.infoBufferSize ?? '0',
  });
  return {
    featureGates: Object.fromEntries(
      Object.entries(file.featureGates ?? {}).filter((e): e is [string, boolean] => e[1] !== undefined),
    ),
    clientConnection: {
      kubeconfig: client?.kubeconfig ?? '',
      acceptContentTypes: client?.acceptContentTypes ?? '',
      contentType: client?.contentType || 'application/vnd.kubernetes.protobuf',
      qps: client?.qps || 5,
      burst: client?.burst || 10,
    },
    logging: {
      format: logging?.format || 'text',
      flushFrequency: logging?.flushFrequency || 5 * SECOND,
      verbosity: logging?.verbosity ?? 0,
      vmodule: logging?.vmodule ?? [],
      options: { text: formatOptions(logging?.options?.text), json: formatOptions(logging?.options?.json) },
    },
    hostnameOverride: file.hostnameOverride ?? '',
    bindAddress,
    healthzBindAddress: withDefaultPort(file.healthzBindAddress || (ipv6 ? '::' : '0.0.0.0'), HEALTHZ_PORT),
    metricsBindAddress: withDefaultPort(file.metricsBindAddress || (ipv6 ? '::1' : '127.0.0.1'), METRICS_PORT),
    bindAddressHardFail: file.bindAddressHardFail ?? false,
    enableProfiling: file.enableProfiling ?? false,
    showHiddenMetricsForVersion: file.showHiddenMetricsForVersion ?? '',
    mode: file.mode ?? '',
    iptables: {
      masqueradeBit: iptables?.masqueradeBit ?? 14,
      masqueradeAll: iptables?.masqueradeAll ?? false,
      localhostNodePorts: iptables?.localhostNodePorts ?? true,
      syncPeriod: iptables?.syncPeriod || 30 * SECOND,
      minSyncPeriod: iptables?.minSyncPeriod || DEFAULT_MIN_SYNC_PERIOD_MS,
    },
    ipvs: {
      syncPeriod: ipvs?.syncPeriod || 30 * SECOND,
      minSyncPeriod: ipvs?.minSyncPeriod ?? 0,
      scheduler: ipvs?.scheduler ?? '',
      excludeCIDRs: ipvs?.excludeCIDRs ?? [],
      strictARP: ipvs?.strictARP ?? false,
      tcpTimeout: ipvs?.tcpTimeout ?? 0,
      tcpFinTimeout: ipvs?.tcpFinTimeout ?? 0,
      udpTimeout: ipvs?.udpTimeout ?? 0,
    },
    nftables: {
      masqueradeBit: nftables?.masqueradeBit ?? 14,
      masqueradeAll: nftables?.masqueradeAll ?? false,
      syncPeriod: nftables?.syncPeriod || 30 * SECOND,
      minSyncPeriod: nftables?.minSyncPeriod || DEFAULT_MIN_SYNC_PERIOD_MS,
    },
    winkernel: {
      networkName: winkernel?.networkName ?? '',
      sourceVip: winkernel?.sourceVip ?? '',
      enableDSR: winkernel?.enableDSR ?? false,
      rootHnsEndpointName: winkernel?.rootHnsEndpointName ?? '',
      forwardHealthCheckVip: winkernel?.forwardHealthCheckVip ?? false,
    },
    detectLocalMode: file.detectLocalMode ?? '',
    detectLocal: {
      bridgeInterface: detectLocal?.bridgeInterface ?? '',
      interfaceNamePrefix: detectLocal?.interfaceNamePrefix ?? '',
    },
    clusterCIDR: file.clusterCIDR ?? '',
    nodePortAddresses: file.nodePortAddresses ?? [],
    oomScoreAdj: file.oomScoreAdj ?? -999,
    conntrack: {
      maxPerCore: conntrack?.maxPerCore ?? 32768,
      min: conntrack?.min ?? 131072,
      tcpEstablishedTimeout: conntrack?.tcpEstablishedTimeout ?? 24 * HOUR,
      tcpCloseWaitTimeout: conntrack?.tcpCloseWaitTimeout ?? HOUR,
      tcpBeLiberal: conntrack?.tcpBeLiberal ?? false,
      udpTimeout: conntrack?.udpTimeout ?? 0,
      udpStreamTimeout: conntrack?.udpStreamTimeout ?? 0,
    },
    configSyncPeriod: file.configSyncPeriod || HOUR / 4,
    portRange: file.portRange ?? '',
    windowsRunAsService: file.windowsRunAsService ?? false,
  };
}

/** P-33: applied after the file or the flags have been read. */
export function withPlatformDefaults(document: KubeProxyConfiguration): KubeProxyConfiguration {
  const mode = document.mode || 'iptables';
  const detectLocalMode = document.detectLocalMode || 'ClusterCIDR';
  const primary = mode === 'nftables' && document.nodePortAddresses.length === 0;
  return {
    ...document,
    mode,
    detectLocalMode,
    nodePortAddresses: primary ? ['primary'] : document.nodePortAddresses,
  };
}
