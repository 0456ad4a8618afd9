// Broken configuration files: each gives one error that names the field, and the program ends with exit code 1.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadConfig } from '../../agent/config/load.ts';
import { ConfigError } from '../../agent/config/types.ts';

const FOLDER = join(import.meta.dirname, '../fixtures/config/broken');
const MAIN = join(import.meta.dirname, '../../agent/main.ts');
const PROGRAM_MS = 60_000;

const BROKEN: readonly (readonly [name: string, problem: RegExp])[] = [
  ['a-list', /is no KubeProxyConfiguration/],
  ['bind-address-is-a-name', /bindAddress: "node-a.example" must be an IP address/],
  ['bridge-without-name', /detectLocal.bridgeInterface: "" must name a bridge/],
  ['burst', /clientConnection.burst: -1 must not be negative/],
  ['cluster-cidr-is-an-address', /clusterCIDR\[0\]: "10.244.0.0" must be a CIDR/],
  ['cluster-cidr-twice-a-family', /clusterCIDR: "10.244.0.0\/16,10.245.0.0\/16" must be at most one CIDR per family/],
  ['cluster-cidr-with-a-blank', /clusterCIDR\[1\]: " fd00::\/48" must be a CIDR/],
  ['conntrack-is-a-number', /conntrack: 131072 must be an object/],
  ['conntrack-negative', /conntrack.maxPerCore: -1 must not be negative/],
  ['detect-local-mode', /detectLocalMode: "clusterCIDR" must be ClusterCIDR, NodeCIDR/],
  ['duration-in-words', /nftables.syncPeriod: "half a minute" must be a duration/],
  ['duration-is-a-number', /iptables.syncPeriod: 30 must be a duration such as "30s"/],
  ['empty', /is empty|is no KubeProxyConfiguration/],
  ['gate-locked', /featureGates.NFTablesProxyMode: false is locked to true/],
  ['gate-unknown', /featureGates.TopologyAwareHints2: true is no feature gate of kube-proxy 1.36/],
  ['health-port-missing', /healthzBindAddress: ":10256" must be IP:port/],
  ['health-port-too-large', /healthzBindAddress: "0.0.0.0:102560" must be IP:port/],
  ['ipvs-exclude-cidrs', /ipvs.excludeCIDRs\[0\]: "10.0.0.0\/33" must be a CIDR/],
  ['kubelet-configuration', /kind "KubeletConfiguration", apiVersion "kubelet/],
  ['later-version', /apiVersion "kubeproxy.config.k8s.io\/v1beta1"; must be/],
  ['log-format', /logging.format: "logfmt" must be text or json/],
  ['mark-bit', /iptables.masqueradeBit: 32 must be from 0 to 31/],
  ['metrics-without-brackets', /metricsBindAddress: "::1:port" must be IP:port/],
  ['min-longer-than-period', /nftables.minSyncPeriod: "11s" must not be longer than nftables.syncPeriod \(10s\)/],
  ['mode-in-capitals', /mode: "NFTables" must be/],
  ['mode-is-a-list', /mode: \["nftables"\] must be a string/],
  ['no-kind', /kind missing, .*must be kind "KubeProxyConfiguration"/],
  ['node-port-addresses-mixed', /nodePortAddresses: .* must be CIDRs, or "primary" alone/],
  ['node-port-addresses-no-list', /nodePortAddresses: "primary" must be a list of strings/],
  ['not-yaml', /not-yaml\.yaml: Flow sequence .* at line 2/],
  ['oom-score', /oomScoreAdj: -1001 must be from -1000 to 1000/],
  ['oom-score-no-number', /oomScoreAdj: "low" must be a whole number/],
  ['prefix-missing', /detectLocal.interfaceNamePrefix: "" must be set/],
  ['sync-period-negative', /ipvs.syncPeriod: "-5s" must be more than 0s/],
  ['unknown-mode', /mode: "ebpf" must be iptables, ipvs, nftables or empty/],
];

function problemsOf(file: string): readonly string[] {
  try {
    loadConfig({ argv: ['--config', file], readFile: (path) => readFileSync(path, 'utf8') });
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

t.test('each file has one problem, which is told', async (t) => {
  t.ok(BROKEN.length >= 30);
  t.strictSame(readdirSync(FOLDER).sort(), BROKEN.map(([name]) => `${name}.yaml`).sort());
  for (const [name, problem] of BROKEN) {
    const problems = problemsOf(join(FOLDER, `${name}.yaml`));
    t.equal(problems.length, 1, `${name}: ${problems.join(' | ')}`);
    t.match(problems[0], problem, name);
  }
});

t.test('the program says so in one line, and ends with exit code 1', async (t) => {
  const { env } = process;
  for (const name of ['not-yaml', 'later-version', 'unknown-mode', 'conntrack-is-a-number']) {
    const file = join(FOLDER, `${name}.yaml`);
    const run = spawnSync(process.execPath, [MAIN, '--config', file], { encoding: 'utf8', timeout: PROGRAM_MS, env });
    t.match(run, { status: 1, stdout: '' }, name);
    t.strictSame(run.stderr, `kubeplumb: ${problemsOf(file)[0]}\n`, name);
  }
});

t.test('a file that does not exist', async (t) => {
  const run = spawnSync(process.execPath, [MAIN, '--config', join(FOLDER, 'none')], { encoding: 'utf8' });
  t.match(run, { status: 1, stdout: '', stderr: /^kubeplumb: --config: ENOENT: .*none'\n$/ });
});
