import t from 'tap';
import { withDefaults, withPlatformDefaults } from '../../agent/config/defaults.ts';
import type { FileFields } from '../../agent/config/types.ts';
import { validate } from '../../agent/config/validate.ts';

function problems(file: FileFields): string[] {
  const document = withPlatformDefaults(withDefaults(file));
  return validate(document, document.clusterCIDR === '' ? [] : document.clusterCIDR.split(','));
}

const FORMAT = { splitStream: true, infoBufferSize: '0' };

const VALID: [name: string, file: FileFields][] = [
  ['defaults', {}],
  ['one CIDR per family', { clusterCIDR: 'fd00::/48,10.0.0.0/8' }],
  ['minimum equal to the sync period', { iptables: { syncPeriod: 1000, minSyncPeriod: 1000 } }],
  ['conntrack zeros', { conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0 } }],
  ['timeouts of ipvs in another mode', { mode: 'nftables', ipvs: { tcpTimeout: -1 } }],
  ['previous minor version', { showHiddenMetricsForVersion: '1.35' }],
  ['a gate locked as wanted', { featureGates: { NFTablesProxyMode: true } }],
  [
    'alpha log options with their gate',
    { featureGates: { LoggingAlphaOptions: true }, logging: { options: { text: FORMAT } } },
  ],
  [
    'alpha log options with all alpha gates',
    { featureGates: { AllAlpha: true }, logging: { options: { text: FORMAT } } },
  ],
  ['IPv6 bind addresses', { bindAddress: '::1', healthzBindAddress: '[::1]:1', metricsBindAddress: '[::]:65535' }],
];

t.test('valid', async (t) => {
  for (const [name, file] of VALID) t.same(problems(file), [], name);
});

const INVALID: [name: string, file: FileFields, problem: RegExp][] = [
  ['mode', { mode: 'userspace' }, /^mode: "userspace" must be iptables, ipvs, nftables/],
  ['no prefix', { detectLocalMode: 'InterfaceNamePrefix' }, /^detectLocal.interfaceNamePrefix: /],
  ['bad CIDR', { clusterCIDR: '10.0.0.0/33' }, /^clusterCIDR\[0\]: "10.0.0.0\/33" must be a CIDR/],
  ['blank after the comma', { clusterCIDR: '10.0.0.0/8, fd00::/48' }, /^clusterCIDR\[1\]: " fd00::\/48"/],
  ['mark bit', { iptables: { masqueradeBit: 32 } }, /^iptables.masqueradeBit: 32 must be from 0 to 31/],
  ['mark bit of nftables', { mode: 'nftables', nftables: { masqueradeBit: 32 } }, /^nftables.masqueradeBit: 32/],
  ['configSyncPeriod', { configSyncPeriod: -1 }, /^configSyncPeriod: "-1ms" must be more than 0s/],
  [
    'sync period',
    { mode: 'nftables', nftables: { syncPeriod: -1000, minSyncPeriod: -2000 } },
    /^nftables.syncPeriod: "-1s"/,
  ],
  ['negative minimum', { iptables: { minSyncPeriod: -1000 } }, /^iptables.minSyncPeriod: "-1s" must not be negative/],
  ['minimum too long', { iptables: { syncPeriod: 500 } }, /^iptables.minSyncPeriod: "1s" must not be longer .*500ms/],
  ['conntrack number', { conntrack: { min: -1 } }, /^conntrack.min: -1 must not be negative/],
  ['conntrack timeout', { conntrack: { udpTimeout: -1000 } }, /^conntrack.udpTimeout: "-1s"/],
  ['ipvs timeout', { mode: 'ipvs', ipvs: { tcpFinTimeout: -1000 } }, /^ipvs.tcpFinTimeout: "-1s"/],
  ['burst', { clientConnection: { burst: -1 } }, /^clientConnection.burst: -1/],
  [
    'locked gate',
    { featureGates: { NFTablesProxyMode: false } },
    /^featureGates.NFTablesProxyMode: false is locked to true/,
  ],
  ['unknown gate', { featureGates: { Foo: true } }, /^featureGates.Foo: true is no feature gate/],
  ['log format', { logging: { format: 'xml' } }, /^logging.format: "xml" must be text or json/],
  ['flush frequency', { logging: { flushFrequency: -1 } }, /^logging.flushFrequency/],
  [
    'vmodule with json',
    { logging: { format: 'json', vmodule: [{ filePattern: 'a', verbosity: 1 }] } },
    /^logging.vmodule/,
  ],
  ['alpha log options', { logging: { options: { json: FORMAT } } }, /^logging.options.json: .* LoggingAlphaOptions/],
  ['hidden metrics', { showHiddenMetricsForVersion: '1.36' }, /^showHiddenMetricsForVersion: "1.36" .*1\.35/],
  ['bind address', { bindAddress: 'eth0' }, /^bindAddress: "eth0" must be an IP address/],
  ['health port', { healthzBindAddress: '0.0.0.0:65536' }, /^healthzBindAddress: "0.0.0.0:65536" must be IP:port/],
  ['metrics without brackets', { metricsBindAddress: '::1:80:x' }, /^metricsBindAddress: "::1:80:x"/],
  ['nodePortAddresses', { nodePortAddresses: ['10.0.0.0/8', 'x'] }, /^nodePortAddresses\[1\]: "x" must be a CIDR/],
];

t.test('invalid: one problem each, naming the field', async (t) => {
  for (const [name, file, problem] of INVALID) t.match(problems(file).slice(0, 1), [problem], name);
});

t.test('everything is reported together', async (t) => {
  const found = problems({ mode: 'x', oomScoreAdj: 5000, bindAddress: '', clusterCIDR: 'y', conntrack: { min: -1 } });
  t.same(
    found.map((p) => p.split(':')[0]),
    ['mode', 'clusterCIDR[0]', 'oomScoreAdj', 'conntrack.min'],
  );
});
