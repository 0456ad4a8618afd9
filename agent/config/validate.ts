// Checks a complete document (P-37, P-38). Every violation is one line: field, value, what is allowed.
import { canonicalIP, parseCidr } from '../../native/ip.ts';
import { parseBindAddress } from './bind-address.ts';
import { formatDuration } from './duration.ts';
import { gateProblem, PREVIOUS_MINOR } from './feature-gates.ts';
import { DETECT_LOCAL_MODES, type KubeProxyConfiguration, PROXY_MODES, type ProxyMode } from './types.ts';

/** Problems of a document with all defaults, in the order of its fields; empty when it is valid. */
export function validate(document: KubeProxyConfiguration, clusterCidrs: readonly string[]): string[] {
  const problems: string[] = [];
  const refuse = (field: string, value: unknown, allowed: string) => {
    problems.push(`${field}: ${JSON.stringify(value)} ${allowed}`);
  };
  const range = (field: string, value: number, low: number, high: number) => {
    if (value < low || value > high) refuse(field, value, `must be from ${low} to ${high}`);
  };
  const atLeastZero = (field: string, value: number) => {
    if (!(value >= 0)) refuse(field, value, 'must not be negative');
  };
  const duration = (field: string, ms: number, zero: 'zero allowed' | 'more than zero') => {
    if (ms < 0 || (ms === 0 && zero === 'more than zero')) {
      refuse(field, formatDuration(ms), zero === 'zero allowed' ? 'must not be negative' : 'must be more than 0s');
    }
  };
  const cidrs = (field: string, list: readonly string[]) => {
    for (const [i, cidr] of list.entries()) {
      if (parseCidr(cidr) === null)
        refuse(`${field}[${i}]`, cidr, 'must be a CIDR such as 10.100.0.0/16 or fd00:1::/48');
    }
  };

  for (const [name, on] of Object.entries(document.featureGates)) {
    const problem = gateProblem(name, on);
    if (problem !== null) refuse(`featureGates.${name}`, on, problem);
  }
  atLeastZero('clientConnection.burst', document.clientConnection.burst);
  validateLogging(document, refuse);

  if (canonicalIP(document.bindAddress) === null) refuse('bindAddress', document.bindAddress, 'must be an IP address');
  const listens = 'must be IP:port with a port from 1 to 65535';
  if (document.healthzBindAddress !== '' && parseBindAddress(document.healthzBindAddress) === null) {
    refuse('healthzBindAddress', document.healthzBindAddress, listens);
  }
  if (parseBindAddress(document.metricsBindAddress) === null) {
    refuse('metricsBindAddress', document.metricsBindAddress, listens);
  }
  if (!['', PREVIOUS_MINOR].includes(document.showHiddenMetricsForVersion)) {
    const allowed = `must be empty or "${PREVIOUS_MINOR}", the previous minor version`;
    refuse('showHiddenMetricsForVersion', document.showHiddenMetricsForVersion, allowed);
  }

  const mode = document.mode as ProxyMode;
  if (PROXY_MODES.includes(mode)) {
    const { syncPeriod, minSyncPeriod } = document[mode];
    duration(`${mode}.syncPeriod`, syncPeriod, 'more than zero');
    duration(`${mode}.minSyncPeriod`, minSyncPeriod, 'zero allowed');
    if (syncPeriod > 0 && minSyncPeriod > syncPeriod) {
      const allowed = `must not be longer than ${mode}.syncPeriod (${formatDuration(syncPeriod)})`;
      refuse(`${mode}.minSyncPeriod`, formatDuration(minSyncPeriod), allowed);
    }
  } else {
    refuse('mode', mode, 'must be iptables, ipvs, nftables or empty');
  }
  range('iptables.masqueradeBit', document.iptables.masqueradeBit, 0, 31);
  if (mode === 'nftables') range('nftables.masqueradeBit', document.nftables.masqueradeBit, 0, 31);
  if (mode === 'ipvs') {
    for (const timeout of ['tcpTimeout', 'tcpFinTimeout', 'udpTimeout'] as const) {
      duration(`ipvs.${timeout}`, document.ipvs[timeout], 'zero allowed');
    }
    cidrs('ipvs.excludeCIDRs', document.ipvs.excludeCIDRs);
  }

  validateDetectLocal(document, clusterCidrs, refuse, cidrs);
  if (document.nodePortAddresses.includes('primary')) {
    if (document.nodePortAddresses.length > 1) {
      refuse('nodePortAddresses', document.nodePortAddresses, 'must be CIDRs, or "primary" alone');
    }
  } else {
    cidrs('nodePortAddresses', document.nodePortAddresses);
  }

  range('oomScoreAdj', document.oomScoreAdj, -1000, 1000);
  const { conntrack } = document;
  atLeastZero('conntrack.maxPerCore', conntrack.maxPerCore);
  atLeastZero('conntrack.min', conntrack.min);
  for (const timeout of ['tcpEstablishedTimeout', 'tcpCloseWaitTimeout', 'udpTimeout', 'udpStreamTimeout'] as const) {
    duration(`conntrack.${timeout}`, conntrack[timeout], 'zero allowed');
  }
  duration('configSyncPeriod', document.configSyncPeriod, 'more than zero');
  return problems;
}

type Refuse = (field: string, value: unknown, allowed: string) => void;

function validateDetectLocal(
  document: KubeProxyConfiguration,
  clusterCidrs: readonly string[],
  refuse: Refuse,
  cidrs: (field: string, list: readonly string[]) => void,
): void {
  const { bridgeInterface, interfaceNamePrefix } = document.detectLocal;
  switch (document.detectLocalMode) {
    case 'ClusterCIDR': {
      cidrs('clusterCIDR', clusterCidrs);
      const families = clusterCidrs.map((cidr) => parseCidr(cidr)?.family);
      if (clusterCidrs.length > 2 || (clusterCidrs.length === 2 && families[0] === families[1])) {
        refuse('clusterCIDR', document.clusterCIDR, 'must be at most one CIDR per family');
      }
      break;
    }
    case 'BridgeInterface':
      if (bridgeInterface === '') {
        refuse('detectLocal.bridgeInterface', '', 'must name a bridge when detectLocalMode is BridgeInterface');
      }
      break;
    case 'InterfaceNamePrefix':
      if (interfaceNamePrefix === '') {
        refuse('detectLocal.interfaceNamePrefix', '', 'must be set when detectLocalMode is InterfaceNamePrefix');
      }
      break;
    case 'NodeCIDR':
      break;
    default:
      refuse('detectLocalMode', document.detectLocalMode, `must be ${DETECT_LOCAL_MODES.join(', ')} or empty`);
  }
}

function validateLogging({ logging, featureGates }: KubeProxyConfiguration, refuse: Refuse): void {
  if (!['text', 'json'].includes(logging.format)) refuse('logging.format', logging.format, 'must be text or json');
  if (!(logging.flushFrequency > 0)) {
    refuse('logging.flushFrequency', formatDuration(logging.flushFrequency), 'must be more than 0s');
  }
  if (logging.vmodule.length > 0 && logging.format !== 'text') {
    refuse('logging.vmodule', logging.vmodule, 'is possible with logging.format text only');
  }
  for (const [i, entry] of logging.vmodule.entries()) {
    if (!entry.filePattern) refuse(`logging.vmodule[${i}].filePattern`, entry.filePattern, 'must not be empty');
  }
  const alpha = featureGates.LoggingAlphaOptions ?? featureGates.AllAlpha ?? false;
  for (const format of ['text', 'json'] as const) {
    const { splitStream, infoBufferSize } = logging.options[format];
    if (alpha || (!splitStream && Number.parseFloat(infoBufferSize) === 0)) continue;
    refuse(`logging.options.${format}`, logging.options[format], 'needs the feature gate LoggingAlphaOptions');
  }
  const beta = featureGates.LoggingBetaOptions ?? featureGates.AllBeta ?? true;
  if (logging.format === 'json' && !beta) {
    refuse('logging.format', 'json', 'needs the feature gate LoggingBetaOptions');
  }
}
