// Fields of v1alpha1 that are read, validated and written back, but change nothing here, each with the reason; all others
// are honoured. docs/configuration.md lists every field.
import { withDefaults } from './defaults.ts';
import { gateHasEffect } from './feature-gates.ts';
import type { KubeProxyConfiguration } from './types.ts';

const JSON_ONLY = 'objects are always asked for as JSON';
const FEW_REQUESTS = 'the agent sends a handful of requests, each failure with back-off';
const ONE_STREAM = 'every line goes to stderr at once';
const LINUX = 'this is Linux';

/** By the path of the field. */
export const WITHOUT_EFFECT: Readonly<Record<string, string>> = {
  'clientConnection.acceptContentTypes': JSON_ONLY,
  'clientConnection.contentType': JSON_ONLY,
  'clientConnection.qps': FEW_REQUESTS,
  'clientConnection.burst': FEW_REQUESTS,
  configSyncPeriod: 'unchanged objects need not be delivered again',
  'logging.flushFrequency': ONE_STREAM,
  'logging.vmodule': 'the verbosity holds for the whole agent',
  'logging.options.text.splitStream': ONE_STREAM,
  'logging.options.text.infoBufferSize': ONE_STREAM,
  'logging.options.json.splitStream': ONE_STREAM,
  'logging.options.json.infoBufferSize': ONE_STREAM,
  portRange: 'no ports are opened for Services',
  showHiddenMetricsForVersion: 'no metrics are hidden',
  windowsRunAsService: LINUX,
  'winkernel.networkName': LINUX,
  'winkernel.sourceVip': LINUX,
  'winkernel.enableDSR': LINUX,
  'winkernel.rootHnsEndpointName': LINUX,
  'winkernel.forwardHealthCheckVip': LINUX,
};

/** What it takes no warning to ask for, because that is how it is. */
const AS_IT_IS: Readonly<Record<string, unknown>> = {
  'clientConnection.acceptContentTypes': 'application/json',
  'clientConnection.contentType': 'application/json',
};

/** A warning for each field that asks in vain: one with a value that is neither its default nor zero. */
export function fieldsInVain(document: KubeProxyConfiguration): string[] {
  const defaults = withDefaults({});
  const fields = Object.entries(WITHOUT_EFFECT).flatMap(([path, reason]) => {
    const value = at(document, path);
    const empty = !value || value === '0' || (Array.isArray(value) && value.length === 0);
    if (empty || value === at(defaults, path) || value === AS_IT_IS[path]) return [];
    return [`field ${path} has no effect: ${reason}`];
  });
  const gates = Object.keys(document.featureGates).filter((name) => !gateHasEffect(name));
  return [...fields, ...gates.map((name) => `field featureGates.${name} has no effect: nothing here depends on it`)];
}

function at(document: KubeProxyConfiguration, path: string): unknown {
  return path.split('.').reduce((value, name) => (value as Record<string, unknown>)[name], document as unknown);
}
