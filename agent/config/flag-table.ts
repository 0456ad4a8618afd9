// All flags (P-30): kube-proxy's names, and our own. Each writes into the document (config fields) or the options.
import type { FlagType, FlagValues } from './flag-values.ts';
import type { KubeProxyConfiguration } from './types.ts';

/** Settings that only flags can make. */
export interface FlagOptions {
  config: string;
  writeConfigTo: string;
  cleanup: boolean;
  initOnly: boolean;
  version: boolean | 'raw';
  master: string;
  /** Ports for bare addresses; 0 empties the address. */
  healthzPort: number | null;
  metricsPort: number | null;
  /** API servers tried before the kubeconfig's. */
  apiServers: string[];
  manifests: string[];
  ipvsDrainLimit: number;
  socket: string;
}

export const DEFAULT_SOCKET = '/run/kubeplumb/agent.sock';

export interface Flag {
  readonly name: string;
  readonly type: FlagType;
  readonly group: string;
  readonly help: string;
  /** With --config: `kept`, or `ignored` (P-26); `kubeconfig` is used when the file names none. */
  readonly withFile: 'kept' | 'ignored' | 'kubeconfig';
  /** Said when the flag is given. */
  readonly warning: string | null;
  readonly set: (target: { document: KubeProxyConfiguration; options: FlagOptions }, value: unknown) => void;
}

type Write<T extends FlagType> = (document: KubeProxyConfiguration, value: FlagValues[T]) => void;

function make<T extends FlagType>(
  withFile: Flag['withFile'],
  group: string,
  name: string,
  type: T,
  help: string,
  set: (target: { document: KubeProxyConfiguration; options: FlagOptions }, value: FlagValues[T]) => void,
  warning: string | null = null,
): Flag {
  return { name, type, group, help, withFile, warning, set: set as Flag['set'] };
}

/** Flags of config fields, of one group. */
function fields(group: string, withFile: Flag['withFile'] = 'ignored') {
  return <T extends FlagType>(name: string, type: T, help: string, set: Write<T>): Flag =>
    make(withFile, group, name, type, help, ({ document }, value) => set(document, value));
}

/** Flags that are no config fields, of one group. */
function options(group: string) {
  return <T extends FlagType>(
    name: string,
    type: T,
    help: string,
    set: (options: FlagOptions, value: FlagValues[T]) => void,
  ): Flag => make('kept', group, name, type, help, (target, value) => set(target.options, value));
}

const general = 'General:';
const api = 'API server:';
const health = 'Health and metrics:';
const modes = 'Modes and syncing:';
const traffic = 'Traffic:';
const kernel = 'Kernel settings:';
const logs = 'Logging:';
const own = 'Not in kube-proxy:';

const generalOption = options(general);
const apiField = fields(api);
const ownOption = options(own);
const healthField = fields(health);
const modeField = fields(modes);
const trafficField = fields(traffic);
const kernelField = fields(kernel);
const logField = fields(logs, 'kept');

const deprecated = (address: string) => `is deprecated, give the port in ${address}`;
const noEffect = 'has no effect';

export const FLAGS: readonly Flag[] = [
  generalOption('config', 'string', 'configuration file (KubeProxyConfiguration, YAML or JSON)', (o, v) => {
    o.config = v;
  }),
  generalOption('write-config-to', 'string', 'write the effective configuration to a file and exit', (o, v) => {
    o.writeConfigTo = v;
  }),
  generalOption('cleanup', 'boolean', 'remove the rules of this agent and of kube-proxy and exit', (o, v) => {
    o.cleanup = v;
  }),
  generalOption('init-only', 'boolean', 'do only what needs full root privileges and exit', (o, v) => {
    o.initOnly = v;
  }),
  generalOption('version', 'version', 'print the version and exit; raw for details', (o, v) => {
    o.version = v;
  }),
  fields(general)('feature-gates', 'gates', 'NAME=true|false, comma-separated', (d, v) => {
    Object.assign(d.featureGates, v);
  }),
  fields(general, 'kept')('hostname-override', 'string', 'name of the own Node instead of the host name', (d, v) => {
    if (v !== '') d.hostnameOverride = v;
  }),
  fields(general)('oom-score-adj', 'int', 'OOM score of the process, -1000 to 1000 (default -999)', (d, v) => {
    d.oomScoreAdj = v;
  }),
  make('kept', general, 'machine-id-file', 'string', 'no effect', () => {}, noEffect),
  make('kept', general, 'boot-id-file', 'string', 'no effect', () => {}, noEffect),

  fields(api, 'kubeconfig')('kubeconfig', 'string', 'client credentials; without, in-cluster access', (d, v) => {
    d.clientConnection.kubeconfig ||= v;
  }),
  options(api)('master', 'string', 'URL of the API server instead of the kubeconfig’s', (o, v) => {
    o.master = v;
  }),
  apiField('kube-api-content-type', 'string', 'content type of requests; no effect: JSON', (d, v) => {
    d.clientConnection.contentType = v;
  }),
  apiField('kube-api-qps', 'float', 'requests per second; no effect', (d, v) => {
    d.clientConnection.qps = v;
  }),
  apiField('kube-api-burst', 'int', 'burst of requests; no effect', (d, v) => {
    d.clientConnection.burst = v;
  }),
  apiField('config-sync-period', 'duration', 'how often objects are delivered again; no effect', (d, v) => {
    d.configSyncPeriod = v;
  }),

  healthField('bind-address', 'ip', 'IP that replaces the Node’s of its family (default 0.0.0.0)', (d, v) => {
    if (v !== '') d.bindAddress = v;
  }),
  healthField('healthz-bind-address', 'ipPort', 'health server (default 0.0.0.0:10256)', (d, v) => {
    if (v !== '') d.healthzBindAddress = v;
  }),
  healthField('metrics-bind-address', 'ipPort', 'metrics server (default 127.0.0.1:10249)', (d, v) => {
    if (v !== '') d.metricsBindAddress = v;
  }),
  make(
    'ignored',
    health,
    'healthz-port',
    'int',
    'port if the health address has none; 0 disables the server',
    ({ options }, value) => {
      options.healthzPort = value;
    },
    deprecated('--healthz-bind-address'),
  ),
  make(
    'ignored',
    health,
    'metrics-port',
    'int',
    'port if the metrics address has none',
    ({ options }, value) => {
      options.metricsPort = value;
    },
    deprecated('--metrics-bind-address'),
  ),
  healthField('bind-address-hard-fail', 'boolean', 'exit when a server cannot listen', (d, v) => {
    d.bindAddressHardFail = v;
  }),
  healthField('profiling', 'boolean', 'profiling handlers on the metrics server', (d, v) => {
    d.enableProfiling = v;
  }),
  healthField(
    'show-hidden-metrics-for-version',
    'string',
    'previous minor version; no effect: none is hidden',
    (d, v) => {
      d.showHiddenMetricsForVersion = v;
    },
  ),

  modeField('proxy-mode', 'string', 'iptables (default), ipvs or nftables', (d, v) => {
    d.mode = v;
  }),
  modeField('iptables-sync-period', 'duration', 'sync period of iptables and nftables (default 30s)', (d, v) => {
    d.iptables.syncPeriod = v;
    d.nftables.syncPeriod = v;
  }),
  modeField('iptables-min-sync-period', 'duration', 'shortest time between syncs of iptables and nftables', (d, v) => {
    d.iptables.minSyncPeriod = v;
    d.nftables.minSyncPeriod = v;
  }),
  modeField('ipvs-sync-period', 'duration', 'sync period of ipvs (default 30s)', (d, v) => {
    d.ipvs.syncPeriod = v;
  }),
  modeField('ipvs-min-sync-period', 'duration', 'shortest time between syncs of ipvs (default 1s)', (d, v) => {
    d.ipvs.minSyncPeriod = v;
  }),
  modeField('ipvs-scheduler', 'string', 'IPVS scheduler (default rr)', (d, v) => {
    d.ipvs.scheduler = v;
  }),
  modeField('ipvs-exclude-cidrs', 'strings', 'virtual servers left alone', (d, v) => {
    d.ipvs.excludeCIDRs = v;
  }),
  modeField('ipvs-strict-arp', 'boolean', 'arp_ignore 1 and arp_announce 2', (d, v) => {
    d.ipvs.strictARP = v;
  }),
  modeField('ipvs-tcp-timeout', 'duration', 'of idle TCP connections; 0 = as is', (d, v) => {
    d.ipvs.tcpTimeout = v;
  }),
  modeField('ipvs-tcpfin-timeout', 'duration', 'of TCP connections after a FIN; 0 = as is', (d, v) => {
    d.ipvs.tcpFinTimeout = v;
  }),
  modeField('ipvs-udp-timeout', 'duration', 'of UDP flows; 0 = as is', (d, v) => {
    d.ipvs.udpTimeout = v;
  }),

  trafficField('masquerade-all', 'boolean', 'masquerade all traffic to cluster IPs', (d, v) => {
    d.iptables.masqueradeAll = v;
    d.nftables.masqueradeAll = v;
  }),
  trafficField('iptables-masquerade-bit', 'int', 'mark bit of iptables and ipvs, 0 to 31 (default 14)', (d, v) => {
    d.iptables.masqueradeBit = v;
  }),
  trafficField('iptables-localhost-nodeports', 'boolean', 'node ports on loopback, iptables (default true)', (d, v) => {
    d.iptables.localhostNodePorts = v;
  }),
  trafficField(
    'detect-local-mode',
    'string',
    'ClusterCIDR (default), NodeCIDR, BridgeInterface, InterfaceNamePrefix',
    (d, v) => {
      d.detectLocalMode = v;
    },
  ),
  trafficField('pod-bridge-interface', 'string', 'bridge of the pods (BridgeInterface)', (d, v) => {
    d.detectLocal.bridgeInterface = v;
  }),
  trafficField('pod-interface-name-prefix', 'string', 'prefix of pod interfaces (InterfaceNamePrefix)', (d, v) => {
    d.detectLocal.interfaceNamePrefix = v;
  }),
  make('ignored', traffic, 'cluster-cidr', 'string', 'CIDRs of the pods, one per family', ({ document }, value) => {
    document.clusterCIDR = value;
  }),
  trafficField('nodeport-addresses', 'strings', 'CIDRs of node IPs that serve node ports, or primary', (d, v) => {
    d.nodePortAddresses = v;
  }),

  kernelField('conntrack-max-per-core', 'int', 'conntrack entries per CPU; 0 = as is (default 32768)', (d, v) => {
    d.conntrack.maxPerCore = v;
  }),
  kernelField('conntrack-min', 'int', 'least number of conntrack entries (default 131072)', (d, v) => {
    d.conntrack.min = v;
  }),
  kernelField('conntrack-tcp-timeout-established', 'duration', '0 = as is (default 24h)', (d, v) => {
    d.conntrack.tcpEstablishedTimeout = v;
  }),
  kernelField('conntrack-tcp-timeout-close-wait', 'duration', '0 = as is (default 1h)', (d, v) => {
    d.conntrack.tcpCloseWaitTimeout = v;
  }),
  kernelField('conntrack-tcp-be-liberal', 'boolean', 'set nf_conntrack_tcp_be_liberal', (d, v) => {
    d.conntrack.tcpBeLiberal = v;
  }),
  kernelField('conntrack-udp-timeout', 'duration', 'of unreplied UDP flows; 0 = as is', (d, v) => {
    d.conntrack.udpTimeout = v;
  }),
  kernelField('conntrack-udp-timeout-stream', 'duration', 'of assured UDP flows; 0 = as is', (d, v) => {
    d.conntrack.udpStreamTimeout = v;
  }),

  logField('logging-format', 'string', 'text or json (default text; json in a pod)', (d, v) => {
    d.logging.format = v;
  }),
  logField('log-flush-frequency', 'duration', 'no effect: lines are written at once', (d, v) => {
    d.logging.flushFrequency = v;
  }),
  logField('v', 'uint', 'verbosity; 4 and more shows debug lines (default 0)', (d, v) => {
    d.logging.verbosity = v;
  }),
  logField('vmodule', 'vmodule', 'PATTERN=N per file; no effect', (d, v) => {
    d.logging.vmodule = [...v, ...d.logging.vmodule];
  }),
  ...(['text', 'json'] as const).flatMap((format) => [
    logField(`log-${format}-split-stream`, 'boolean', `no effect: all goes to stderr (${format})`, (d, v) => {
      d.logging.options[format].splitStream = v;
    }),
    logField(`log-${format}-info-buffer-size`, 'quantity', `no effect (${format})`, (d, v) => {
      d.logging.options[format].infoBufferSize = v;
    }),
  ]),

  ownOption('apiserver', 'urls', 'URL of an API server, tried before the kubeconfig’s; repeatable', (o, v) => {
    o.apiServers = v;
  }),
  ownOption('manifests', 'paths', 'file or folder of manifests instead of the API server; repeatable', (o, v) => {
    o.manifests = v;
  }),
  ownOption(
    'ipvs-drain-limit',
    'duration',
    'longest life of connections to removed endpoints (default 0: no limit)',
    (o, v) => {
      o.ipvsDrainLimit = v;
    },
  ),
  ownOption('socket', 'string', `Unix socket for agentctl (default ${DEFAULT_SOCKET})`, (o, v) => {
    o.socket = v;
  }),
];
