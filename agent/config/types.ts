// Shapes of the configuration: the v1alpha1 document (file fields, P-32) and the Config the agent runs with.
// Durations are milliseconds everywhere inside the agent.

export type ProxyMode = 'iptables' | 'ipvs' | 'nftables';
export const PROXY_MODES: readonly ProxyMode[] = ['iptables', 'ipvs', 'nftables'];

export type DetectLocalMode = 'ClusterCIDR' | 'NodeCIDR' | 'BridgeInterface' | 'InterfaceNamePrefix';
export const DETECT_LOCAL_MODES: readonly DetectLocalMode[] = [
  'ClusterCIDR',
  'NodeCIDR',
  'BridgeInterface',
  'InterfaceNamePrefix',
];

export interface VModule {
  filePattern: string;
  verbosity: number;
}

/** Options of one log format; the buffer size is a resource quantity. */
export interface LogFormatOptions {
  splitStream: boolean;
  infoBufferSize: string;
}

export interface LoggingSection {
  format: string;
  flushFrequency: number;
  verbosity: number;
  vmodule: VModule[];
  options: { text: LogFormatOptions; json: LogFormatOptions };
}

/** A complete v1alpha1 `KubeProxyConfiguration`, field names as in the file, not yet validated. Durations in ms. */
export interface KubeProxyConfiguration {
  featureGates: Record<string, boolean>;
  clientConnection: {
    kubeconfig: string;
    acceptContentTypes: string;
    contentType: string;
    qps: number;
    burst: number;
  };
  logging: LoggingSection;
  hostnameOverride: string;
  bindAddress: string;
  healthzBindAddress: string;
  metricsBindAddress: string;
  bindAddressHardFail: boolean;
  enableProfiling: boolean;
  showHiddenMetricsForVersion: string;
  mode: string;
  iptables: {
    masqueradeBit: number;
    masqueradeAll: boolean;
    localhostNodePorts: boolean;
    syncPeriod: number;
    minSyncPeriod: number;
  };
  ipvs: {
    syncPeriod: number;
    minSyncPeriod: number;
    scheduler: string;
    excludeCIDRs: string[];
    strictARP: boolean;
    tcpTimeout: number;
    tcpFinTimeout: number;
    udpTimeout: number;
  };
  nftables: { masqueradeBit: number; masqueradeAll: boolean; syncPeriod: number; minSyncPeriod: number };
  winkernel: {
    networkName: string;
    sourceVip: string;
    enableDSR: boolean;
    rootHnsEndpointName: string;
    forwardHealthCheckVip: boolean;
  };
  detectLocalMode: string;
  detectLocal: { bridgeInterface: string; interfaceNamePrefix: string };
  clusterCIDR: string;
  nodePortAddresses: string[];
  oomScoreAdj: number;
  conntrack: {
    maxPerCore: number;
    min: number;
    tcpEstablishedTimeout: number;
    tcpCloseWaitTimeout: number;
    tcpBeLiberal: boolean;
    udpTimeout: number;
    udpStreamTimeout: number;
  };
  configSyncPeriod: number;
  portRange: string;
  windowsRunAsService: boolean;
}

type DeepPartial<T> = T extends readonly unknown[] ? T : T extends object ? { [K in keyof T]?: DeepPartial<T[K]> } : T;

/** What a file holds: any field may be absent. */
export type FileFields = DeepPartial<KubeProxyConfiguration>;

/** The validated settings in force; values that depend on the mode are already chosen (P-34). */
export interface Config {
  mode: ProxyMode;
  /** '' = use the host's name; see `nodeName` (P-9). */
  hostnameOverride: string;
  /** Path of the kubeconfig, or null for in-cluster access (P-8). */
  kubeconfig: string | null;
  /** Server URL that overrides the kubeconfig's, or null. */
  master: string | null;
  /** URLs of API servers that are tried before the one of `master` or `kubeconfig`. */
  apiServers: string[];
  client: { contentType: string; acceptContentTypes: string; qps: number; burst: number };
  bindAddress: string;
  /** `IP:port`; '' = no health server. */
  healthzBindAddress: string;
  /** `IP:port`. */
  metricsBindAddress: string;
  bindAddressHardFail: boolean;
  profiling: boolean;
  showHiddenMetricsForVersion: string;
  syncPeriodMs: number;
  minSyncPeriodMs: number;
  /** Somebody chose the minimum sync period; false when `minSyncPeriodMs` is a default (or a 0 replaced by it). */
  minSyncPeriodExplicit: boolean;
  configSyncPeriodMs: number;
  masqueradeAll: boolean;
  /** Bit of the packet mark, 0…31 (S-66). */
  masqueradeBit: number;
  /** iptables mode only (S-54). */
  localhostNodePorts: boolean;
  ipvs: {
    /** '' = rr. */
    scheduler: string;
    excludeCidrs: string[];
    strictArp: boolean;
    /** 0 leaves the kernel's value (V-5). */
    tcpTimeoutMs: number;
    tcpFinTimeoutMs: number;
    udpTimeoutMs: number;
    /** How long a leaving real server may keep connections; 0: as long as it has any. */
    drainLimitMs: number;
  };
  detectLocalMode: DetectLocalMode;
  bridgeInterface: string;
  interfaceNamePrefix: string;
  /** Canonical when valid; only checked in mode ClusterCIDR (P-37). */
  clusterCidrs: string[];
  /** Canonical CIDRs, or `primary` alone, or empty for all addresses (S-50, S-51). */
  nodePortAddresses: string[];
  oomScoreAdj: number;
  conntrack: {
    /** 0 leaves nf_conntrack_max alone (P-51). */
    maxPerCore: number;
    min: number;
    /** Timeouts: 0 leaves the kernel's value (P-53). */
    tcpEstablishedTimeoutMs: number;
    tcpCloseWaitTimeoutMs: number;
    tcpBeLiberal: boolean;
    udpTimeoutMs: number;
    udpStreamTimeoutMs: number;
  };
  featureGates: Record<string, boolean>;
  logging: {
    format: 'text' | 'json';
    /** Somebody chose the format; false when it is the default. */
    formatChosen: boolean;
    flushFrequencyMs: number;
    verbosity: number;
    vmodule: VModule[];
    options: { text: LogFormatOptions; json: LogFormatOptions };
  };
  /** Path of the configuration file in use, or null. */
  configFile: string | null;
  /** P-3, P-4, P-6: what to do instead of a normal run. */
  writeConfigTo: string | null;
  cleanup: boolean;
  initOnly: boolean;
  /** Files or folders that replace the API server; empty for the API server. */
  manifests: string[];
  /** Unix socket of the agent for agentctl. */
  socket: string;
  /** The same settings as a v1alpha1 document with all defaults, `primary` unresolved. */
  document: KubeProxyConfiguration;
}

/** The configuration cannot be used. `problems` has one line each, naming field or flag, value and what is allowed. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[], options?: ErrorOptions) {
    super(problems.length === 1 ? problems[0] : `${problems.length} problems:\n  ${problems.join('\n  ')}`, options);
    this.name = 'ConfigError';
    this.problems = problems;
  }
}
