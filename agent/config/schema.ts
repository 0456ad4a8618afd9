// The fields of a v1alpha1 KubeProxyConfiguration and their types, as data: decoding and writing a file both follow it.
import type { KubeProxyConfiguration } from './types.ts';

export type FieldType =
  | 'string'
  | 'boolean'
  | 'int32'
  | 'uint32'
  | 'float'
  | 'duration'
  /** A duration, or a number of nanoseconds. */
  | 'durationOrNumber'
  | 'quantity'
  | 'strings'
  | 'booleans'
  | { readonly items: Section };

export interface Section {
  readonly [field: string]: FieldType | { readonly section: Section };
}

type Typed<T> = {
  readonly [K in keyof T]-?: NonNullable<T[K]> extends readonly string[]
    ? 'strings'
    : NonNullable<T[K]> extends Record<string, boolean>
      ? 'booleans' | { readonly section: Typed<T[K]> }
      : NonNullable<T[K]> extends readonly (infer Item)[]
        ? { readonly items: Typed<Item> }
        : NonNullable<T[K]> extends object
          ? { readonly section: Typed<T[K]> }
          : FieldType;
};

const FORMAT_OPTIONS = { section: { splitStream: 'boolean', infoBufferSize: 'quantity' } } as const;

export const SCHEMA: Typed<KubeProxyConfiguration> = {
  featureGates: 'booleans',
  clientConnection: {
    section: {
      kubeconfig: 'string',
      acceptContentTypes: 'string',
      contentType: 'string',
      qps: 'float',
      burst: 'int32',
    },
  },
  logging: {
    section: {
      format: 'string',
      flushFrequency: 'durationOrNumber',
      verbosity: 'uint32',
      vmodule: { items: { filePattern: 'string', verbosity: 'uint32' } },
      options: { section: { text: FORMAT_OPTIONS, json: FORMAT_OPTIONS } },
    },
  },
  hostnameOverride: 'string',
  bindAddress: 'string',
  healthzBindAddress: 'string',
  metricsBindAddress: 'string',
  bindAddressHardFail: 'boolean',
  enableProfiling: 'boolean',
  showHiddenMetricsForVersion: 'string',
  mode: 'string',
  iptables: {
    section: {
      masqueradeBit: 'int32',
      masqueradeAll: 'boolean',
      localhostNodePorts: 'boolean',
      syncPeriod: 'duration',
      minSyncPeriod: 'duration',
    },
  },
  ipvs: {
    section: {
      syncPeriod: 'duration',
      minSyncPeriod: 'duration',
      scheduler: 'string',
      excludeCIDRs: 'strings',
      strictARP: 'boolean',
      tcpTimeout: 'duration',
      tcpFinTimeout: 'duration',
      udpTimeout: 'duration',
    },
  },
  nftables: {
    section: { masqueradeBit: 'int32', masqueradeAll: 'boolean', syncPeriod: 'duration', minSyncPeriod: 'duration' },
  },
  winkernel: {
    section: {
      networkName: 'string',
      sourceVip: 'string',
      enableDSR: 'boolean',
      rootHnsEndpointName: 'string',
      forwardHealthCheckVip: 'boolean',
    },
  },
  detectLocalMode: 'string',
  detectLocal: { section: { bridgeInterface: 'string', interfaceNamePrefix: 'string' } },
  clusterCIDR: 'string',
  nodePortAddresses: 'strings',
  oomScoreAdj: 'int32',
  conntrack: {
    section: {
      maxPerCore: 'int32',
      min: 'int32',
      tcpEstablishedTimeout: 'duration',
      tcpCloseWaitTimeout: 'duration',
      tcpBeLiberal: 'boolean',
      udpTimeout: 'duration',
      udpStreamTimeout: 'duration',
    },
  },
  configSyncPeriod: 'duration',
  portRange: 'string',
  windowsRunAsService: 'boolean',
};
