// From command line and file to the Config in force: file or flags → defaults → platform defaults → validation → the
// values of the mode (P-26, P-31…P-36). Reads nothing itself; the caller logs the warnings.

import { withDefaultPort } from './bind-address.ts';
import {
  DEFAULT_MIN_SYNC_PERIOD_MS,
  HEALTHZ_PORT,
  METRICS_PORT,
  withDefaults,
  withPlatformDefaults,
} from './defaults.ts';
import { effective } from './effective.ts';
import { fieldsInVain } from './field-effects.ts';
import { decodeFile } from './file.ts';
import { DEFAULT_SOCKET, type Flag, type FlagOptions } from './flag-table.ts';
import { PARSERS } from './flag-values.ts';
import { parseFlags } from './flags.ts';
import { type Config, ConfigError, type FileFields, type KubeProxyConfiguration } from './types.ts';
import { validate } from './validate.ts';

export interface LoadOptions {
  /** Arguments after the program's name. */
  argv: readonly string[];
  /** Content of a file; throws when it cannot be read. */
  readFile: (path: string) => string;
  env?: Readonly<Record<string, string | undefined>>;
}

export type Loaded =
  | { readonly action: 'help'; readonly text: string }
  | { readonly action: 'version'; readonly raw: boolean }
  | { readonly action: 'run'; readonly config: Config; readonly warnings: readonly string[] };

/** Throws ConfigError, with all problems found, when the configuration cannot be used. */
export function loadConfig({ argv, readFile, env = {} }: LoadOptions): Loaded {
  const parsed = parseFlags(argv);
  if (parsed.action === 'help') return parsed;
  const options: FlagOptions = {
    config: '',
    writeConfigTo: '',
    cleanup: false,
    initOnly: false,
    version: false,
    master: '',
    healthzPort: null,
    metricsPort: null,
    apiServers: [],
    manifests: [],
    ipvsDrainLimit: 0,
    socket: DEFAULT_SOCKET,
  };
  // Options first: whether there is a file decides what the other flags mean.
  for (const { flag, value } of parsed.given) {
    if (flag.name === 'config' || flag.name === 'version') flag.set({ document: withDefaults({}), options }, value);
  }
  if (options.version !== false) return { action: 'version', raw: options.version === 'raw' };

  const warnings: string[] = [];
  const fields = options.config === '' ? {} : readFields(options.config, readFile, warnings);
  const document = withDefaults(fields);
  applyFlags(parsed.given, { document, options }, warnings);
  options.apiServers = apiServersOf(env) ?? options.apiServers;
  if (options.config === '') finishFlags(document, options, parsed.given);
  warnings.push(...fieldsInVain(document));

  const complete = withPlatformDefaults(document);
  const clusterCidrs = clusterCidrList(complete, parsed.given, options);
  const problems = validate(complete, clusterCidrs);
  if (problems.length > 0) throw new ConfigError(problems);
  const minSyncPeriodExplicit = choseMinSyncPeriod(complete.mode, fields, parsed.given, options);
  const logFormatChosen = Boolean(fields.logging?.format) || has(parsed.given, 'logging-format');
  const extra = { options, clusterCidrs, minSyncPeriodExplicit, logFormatChosen };
  return { action: 'run', config: effective(complete, extra), warnings };
}

const API_SERVERS = 'KUBEPLUMB_APISERVER';

/** What the environment says takes the place of `--apiserver`; null when it says nothing. */
function apiServersOf(env: NonNullable<LoadOptions['env']>): string[] | null {
  const urls = (env[API_SERVERS] ?? '').split(',').flatMap((text) => text.trim() || []);
  try {
    return urls.length === 0 ? null : urls.flatMap(PARSERS.urls);
  } catch (wanted) {
    throw new ConfigError([`${API_SERVERS}: ${JSON.stringify(env[API_SERVERS])} ${wanted}`]);
  }
}

type Given = readonly { flag: Flag; value: unknown }[];

function readFields(path: string, readFile: (path: string) => string, warnings: string[]): FileFields {
  let text: string;
  try {
    text = readFile(path);
  } catch (error) {
    throw new ConfigError([`--config: ${(error as Error).message}`], { cause: error });
  }
  const decoded = decodeFile(text, path);
  warnings.push(...decoded.warnings);
  return decoded.fields;
}

function applyFlags(
  given: Given,
  target: { document: KubeProxyConfiguration; options: FlagOptions },
  warnings: string[],
): void {
  for (const { flag, value } of given) {
    if (flag.warning !== null) warnings.push(`flag --${flag.name} ${flag.warning}`);
    const file = target.options.config !== '';
    const ignored =
      flag.withFile === 'ignored' ||
      (flag.withFile === 'kubeconfig' && target.document.clientConnection.kubeconfig !== '');
    if (file && ignored) warnings.push(`flag --${flag.name} is ignored because --config is given`);
    else flag.set(target, value);
  }
}

/** What holds only without a file: ports of bare addresses (P-30) and the defaults that differ (P-35). */
function finishFlags(document: KubeProxyConfiguration, options: FlagOptions, given: Given): void {
  document.healthzBindAddress = withPort(document.healthzBindAddress, options.healthzPort, HEALTHZ_PORT);
  document.metricsBindAddress = withPort(document.metricsBindAddress, options.metricsPort, METRICS_PORT);
  if (!has(given, 'ipvs-min-sync-period')) document.ipvs.minSyncPeriod = DEFAULT_MIN_SYNC_PERIOD_MS;
}

function withPort(address: string, port: number | null, otherwise: number): string {
  return port === 0 ? '' : withDefaultPort(address, port ?? otherwise);
}

/** P-36: an empty field means none, an empty flag one empty entry. */
function clusterCidrList(document: KubeProxyConfiguration, given: Given, options: FlagOptions): string[] {
  const none = document.clusterCIDR === '' && (options.config !== '' || !has(given, 'cluster-cidr'));
  return none ? [] : document.clusterCIDR.split(',');
}

/** A 0 in a file is what kubeadm writes for "not chosen"; a 0 by flag is a choice. */
function choseMinSyncPeriod(mode: string, fields: FileFields, given: Given, options: FlagOptions): boolean {
  if (options.config === '') return has(given, mode === 'ipvs' ? 'ipvs-min-sync-period' : 'iptables-min-sync-period');
  const section = mode === 'ipvs' ? fields.ipvs : mode === 'nftables' ? fields.nftables : fields.iptables;
  return (section?.minSyncPeriod ?? 0) !== 0;
}

function has(given: Given, name: string): boolean {
  return given.some(({ flag }) => flag.name === name);
}
