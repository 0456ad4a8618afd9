// `kubernetes_build_info` and `kubernetes_feature_enabled` (P-82), with kube-proxy's labels.
import type { Registry } from 'prom-client';
import { computedGauge } from './computed.ts';

export interface BuildInfoOptions {
  readonly registry: Registry;
  /** Of the agent: `1.2.3`. */
  readonly version: string;
  readonly arch: string;
  readonly gates: Readonly<Record<string, boolean>>;
}

/** The gates of kube-proxy 1.36 whose subject the agent has too: its stage there, and its default. */
const GATES: Readonly<Record<string, readonly [stage: string, on: boolean]>> = {
  AllowServiceExternalIPs: ['', true],
  ComponentFlagz: ['BETA', true],
  ComponentStatusz: ['BETA', true],
  MultiCIDRServiceAllocator: ['', true],
  NFTablesProxyMode: ['', true],
  PreferSameTrafficDistribution: ['', true],
};

/** Whether a gate is on, by configuration or default. */
export function gateEnabled(gates: Readonly<Record<string, boolean>>, name: string): boolean {
  const [stage, on] = GATES[name] ?? ['', false];
  return gates[name] ?? (stage === 'BETA' ? gates.AllBeta : undefined) ?? on;
}

export function registerBuildInfo({ registry, version, arch, gates }: BuildInfoOptions): void {
  const [major = '', minor = ''] = version.split('.');
  const info = {
    build_date: '',
    compiler: 'v8',
    git_commit: '',
    git_tree_state: '',
    git_version: `v${version}`,
    go_version: '',
    major,
    minor,
    platform: `linux/${arch === 'x64' ? 'amd64' : arch}`,
  };
  computedGauge({
    registry,
    name: 'kubernetes_build_info',
    help: '[BETA] The version of this program; constant 1.',
    labels: Object.keys(info),
    read: () => [[info, 1]],
  });
  computedGauge({
    registry,
    name: 'kubernetes_feature_enabled',
    help: '[BETA] Whether a feature gate is on.',
    labels: ['name', 'stage'],
    read: () =>
      Object.entries(GATES).map(([name, [stage]]) => [{ name, stage }, gateEnabled(gates, name) ? 1 : 0] as const),
  });
}
