// How to reach and convince API servers: a kubeconfig file, bare URLs, or the pod's service account (P-8).
// Of client-node only the kubeconfig reader and the exec plug-in runner are loaded: its KubeConfig class pulls in the
// generated client, which costs 0.3 s and 55 MiB from sources, 40 ms and 15 MiB bundled.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import type { Cluster, Context, User } from '@kubernetes/client-node/dist/config_types.js';
import { newClusters, newContexts, newUsers } from '@kubernetes/client-node/dist/config_types.js';
import { parseDocument } from 'yaml';
import { describeError } from '../log.ts';
import { isRecord } from './selection.ts';

/** A user of a kubeconfig with the fields client-node's reader leaves out. */
export interface Account extends User {
  readonly tokenFile?: string | undefined;
  readonly impersonateGroups?: readonly string[];
}

/** Server and user to be used, with file names made absolute. */
export interface ServerAccess {
  /** The kubeconfig file, or a word for what took its place; begins error messages. */
  readonly origin: string;
  /** `server` is the first one to be tried. */
  readonly cluster: Cluster;
  readonly account: Account;
  /** URLs of all servers in the order in which they are tried, without trailing slash; at least one. */
  readonly servers: readonly string[];
}

/** A setting that must be repaired before the API server can be used. The message names file and field. */
export class KubeConfigError extends Error {
  override readonly name = 'KubeConfigError';
}

export interface AccessOptions {
  /** Path of a kubeconfig file. */
  readonly kubeconfig?: string | undefined;
  /** Server URL; overrides the kubeconfig's (`--master`). */
  readonly server?: string | undefined;
  /** URLs tried before that of the kubeconfig or `server` (`--apiserver`). */
  readonly apiServers?: readonly string[] | undefined;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly serviceAccountDir?: string;
}

const SERVICE_ACCOUNT_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';

/** Throws KubeConfigError. Token and certificate files are read later, at each use. */
export function loadAccess(options: AccessOptions): ServerAccess {
  const first = (options.apiServers ?? []).map((url) => checkedUrl(url, '--apiserver'));
  const { cluster, ...access } = accessOf(options, first);
  const servers = [...new Set([...first, cluster.server])];
  return { ...access, cluster: { ...cluster, server: servers[0]! }, servers };
}

/** URL of the API server's ClusterIP, which every pod is told (`KUBERNETES_SERVICE_HOST`); null outside of pods. */
export function serviceAddress(env: NonNullable<AccessOptions['env']>): string | null {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = env;
  if (!host || !port) return null;
  return checkedUrl(`https://${host.includes(':') ? `[${host}]` : host}:${port}`, 'KUBERNETES_SERVICE_HOST');
}

type Access = Omit<ServerAccess, 'servers'>;

function accessOf(options: AccessOptions, [first]: readonly string[]): Access {
  const { kubeconfig = '', server = '', env = process.env, serviceAccountDir = SERVICE_ACCOUNT_DIR } = options;
  if (kubeconfig !== '') return fromFile(kubeconfig, server);
  if (server !== '') return anonymous(checkedUrl(server, '--master'), '--master');
  // URLs of their own do without the ClusterIP, which may not work yet, but not without the pod's credentials.
  if (first !== undefined && !existsSync(join(serviceAccountDir, 'token'))) return anonymous(first, '--apiserver');
  const address = first ?? serviceAddress(env);
  if (address !== null) return serviceAccount(address, serviceAccountDir);
  throw new KubeConfigError(
    'no API server: none of --kubeconfig, --apiserver and --master is given, and KUBERNETES_SERVICE_HOST and _PORT are not set',
  );
}

function anonymous(server: string, origin: string): Access {
  return { origin, cluster: { name: 'server', server, skipTLSVerify: false }, account: { name: 'anonymous' } };
}

function serviceAccount(server: string, folder: string): Access {
  return {
    origin: 'in-cluster',
    cluster: { name: 'in-cluster', server, skipTLSVerify: false, caFile: join(folder, 'ca.crt') },
    account: { name: 'service-account', tokenFile: join(folder, 'token') },
  };
}

function fromFile(file: string, serverOverride: string): Access {
  const fail = (text: string, cause?: unknown): never => {
    throw new KubeConfigError(`kubeconfig ${file}: ${text}`, cause === undefined ? {} : { cause });
  };
  const config = readDocument(file, fail);
  const read = <T>(field: string, parse: (list: unknown) => T[]): T[] => {
    const list = config[field] ?? [];
    if (!Array.isArray(list)) fail(`${field}: must be a list`);
    try {
      return parse(list);
    } catch (err) {
      const text = describeError(err);
      return fail(text.startsWith(field) ? text : `${field}: ${text}`);
    }
  };
  // Read one list at a time, so that an error can be told apart by field.
  const contexts = read<Context>('contexts', newContexts);
  const clusters = read<Cluster>('clusters', newClusters);
  const users = read<User>('users', newUsers);

  const current = config['current-context'];
  if (typeof current !== 'string' || current === '') return fail('current-context: missing');
  const context = contexts.find((c) => c.name === current) ?? fail(`current-context: there is no context "${current}"`);
  const cluster =
    clusters.find((c) => c.name === context.cluster) ??
    fail(`contexts[${current}].context.cluster: there is no cluster "${context.cluster}"`);
  const user =
    users.find((u) => u.name === context.user) ??
    (context.user === undefined
      ? { name: 'anonymous' }
      : fail(`contexts[${current}].context.user: there is no user "${context.user}"`));
  if (user.authProvider) fail(`users[${user.name}].user.auth-provider: not supported, use exec`);

  const absolute = (path: string | undefined) =>
    typeof path === 'string' && path !== '' && !isAbsolute(path) ? join(dirname(file), path) : path || undefined;
  const server = checkedUrl(
    serverOverride || cluster.server,
    serverOverride ? '--master' : `kubeconfig ${file}: clusters[${cluster.name}].cluster.server`,
  );
  const { caFile, ...restOfCluster } = cluster;
  const ca = absolute(caFile);
  return {
    origin: `kubeconfig ${file}`,
    cluster: { ...restOfCluster, server, ...(ca !== undefined && { caFile: ca }) },
    account: accountOf(user, rawUser(config, user.name), absolute),
  };
}

/** Adds what client-node does not read: `tokenFile`, `as-groups`, paths relative to the file. */
function accountOf(
  user: User,
  raw: Record<string, unknown>,
  absolute: (path: string | undefined) => string | undefined,
): Account {
  const { tokenFile } = raw;
  const groups = raw['as-groups'];
  const { certFile, keyFile, exec, ...rest } = user;
  const files = { certFile: absolute(certFile), keyFile: absolute(keyFile) };
  const command = isRecord(exec) && typeof exec.command === 'string' ? exec.command : '';
  return {
    ...rest,
    ...(files.certFile !== undefined && { certFile: files.certFile }),
    ...(files.keyFile !== undefined && { keyFile: files.keyFile }),
    ...(exec && { exec: { ...exec, command: command.includes('/') ? absolute(command) : command } }),
    ...(typeof tokenFile === 'string' && tokenFile !== '' && { tokenFile: absolute(tokenFile) }),
    ...(Array.isArray(groups) && { impersonateGroups: groups.map(String) }),
  };
}

function rawUser(config: Record<string, unknown>, name: string): Record<string, unknown> {
  const entry = (Array.isArray(config.users) ? config.users : []).find((u) => isRecord(u) && u.name === name);
  return isRecord(entry?.user) ? entry.user : {};
}

function readDocument(file: string, fail: (text: string, cause?: unknown) => never): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (err) {
    return fail('cannot be read', err);
  }
  const document = parseDocument(text);
  const [error] = document.errors;
  if (error) fail(error.message.split('\n')[0] ?? 'not YAML');
  const config: unknown = document.toJS();
  return isRecord(config) ? config : fail('must be a mapping with clusters, contexts and users');
}

function checkedUrl(text: string, field: string): string {
  // A bare host:port means plain http, as kubectl has it.
  const url = URL.parse(/^[a-z]+:\//i.test(text) ? text : `http://${text}`);
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    throw new KubeConfigError(`${field}: not an http or https URL: "${text}"`);
  }
  return url.href.replace(/\/$/, '');
}
