// Command line and environment of `npm run e2e`. Pure.
import { parseArgs } from 'node:util';
import type { ProxyMode } from './cluster/cluster.ts';
import { type Images, imagesFrom } from './images.ts';

const PROVIDERS = ['kind', 'existing', 'namespaces'] as const;
const MODES: readonly ProxyMode[] = ['nftables', 'iptables', 'ipvs'];
const IP_FAMILIES = ['ipv4', 'ipv6', 'dual'] as const;
const CHANNELS = ['any', 'exec', 'proxy'] as const;

export interface Options {
  readonly provider: (typeof PROVIDERS)[number];
  readonly modes: readonly ProxyMode[];
  readonly ipFamily: (typeof IP_FAMILIES)[number];
  readonly images: Images;
  /** Of an existing cluster. */
  readonly kubeconfig: string | null;
  /** Of the suite, on an existing cluster; null: one of its own. */
  readonly namespace: string | null;
  readonly deploy: boolean;
  readonly clusterCidr: string;
  readonly apiServers: readonly string[];
  readonly channel: (typeof CHANNELS)[number];
  readonly podLimitSeconds: number;
  /** Parts of names of checks. */
  readonly only: readonly string[];
  readonly artifacts: string;
  readonly dryRun: boolean;
  readonly help: boolean;
  readonly list: boolean;
  readonly keep: boolean;
}

export const HELP = `Usage: npm run e2e -- [options]

Runs the project's checks against a cluster: a new one made by kind, one that is there, or one of network namespaces.

  --cluster <how>        kind (default); existing (default with E2E_KUBECONFIG); namespaces: on this machine, no containers
  --proxy-mode <modes>   nftables, iptables, ipvs, or several with commas (default: all; namespaces: nftables)
  --ip-family <family>   of a kind cluster: ipv4 (default), ipv6 or dual
  --check <text>         only checks with this in their name; repeatable
  --deploy               existing: deploy daemonset.yaml in each mode, and take it back at the end
  --artifacts <folder>   for logs and dumps when a check fails (default: e2e-artifacts)
  --keep                 leave the kind cluster
  --dry-run              say what would be done and what is missing, do nothing
  --list                 names of the checks
  -h, --help

Environment:
  E2E_KUBECONFIG         kubeconfig of an existing cluster
  E2E_NAMESPACE          namespace there that exists (default: one is made and removed)
  E2E_DEPLOY=1           as --deploy
  E2E_CLUSTER_CIDR       with --deploy: CIDRs of the pods
  E2E_API_SERVERS        with --deploy: URLs of API servers that need no Service, with commas
  E2E_PROXY_MODES        as --proxy-mode
  E2E_AGNHOST_IMAGE      servers and clients: agnhost, or what speaks like its netexec
  E2E_INGRESS_IMAGE      nginx that runs as an ordinary user, for the check of an ingress (default: agnhost stands in)
  E2E_AGENT_IMAGE        the agent (default, kind only: built from the Dockerfile)
  E2E_UPGRADE_IMAGE      another version of the agent, for the upgrade
  E2E_KIND_NODE_IMAGE    of kind's nodes
  E2E_CHANNEL            how clients are told to dial: exec (curl in the pod), proxy (of the API server), any (default)
  E2E_POD_SECONDS        how long pods may take to start (default: 600)

Exit codes: 0 all checks passed or were skipped, 1 a check failed, 2 something is missing or the command line is wrong.
`;

/** The command line or the environment cannot be used. */
export class OptionsError extends Error {}

function oneOf<T extends string>(what: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) throw new OptionsError(`${what} must be one of ${allowed.join(', ')}, not "${value}"`);
  return found;
}

const parts = (text: string): string[] =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean);

/** @throws OptionsError */
export function parseOptions(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): Options {
  const { values } = parse(argv);
  const kubeconfig = env.E2E_KUBECONFIG || null;
  const provider = oneOf('--cluster', values.cluster ?? (kubeconfig === null ? 'kind' : 'existing'), PROVIDERS);
  if (provider === 'existing' && kubeconfig === null && !values.help)
    throw new OptionsError('--cluster existing needs E2E_KUBECONFIG');
  const deploy = values.deploy ?? env.E2E_DEPLOY === '1';
  if (provider === 'existing' && deploy && !env.E2E_AGENT_IMAGE && !values.help)
    throw new OptionsError('--deploy needs E2E_AGENT_IMAGE, which nodes can pull or have');
  const seconds = Number(env.E2E_POD_SECONDS || 600);
  if (!(seconds > 0)) throw new OptionsError(`E2E_POD_SECONDS must be a positive number, not "${env.E2E_POD_SECONDS}"`);
  const modes =
    values['proxy-mode'] ?? env.E2E_PROXY_MODES ?? (provider === 'namespaces' ? 'nftables' : MODES.join(','));
  return {
    provider,
    modes: parts(modes).map((mode) => oneOf('--proxy-mode', mode, MODES)),
    ipFamily: oneOf('--ip-family', values['ip-family'] ?? 'ipv4', IP_FAMILIES),
    images: imagesFrom(env),
    kubeconfig,
    namespace: env.E2E_NAMESPACE || null,
    deploy,
    clusterCidr: env.E2E_CLUSTER_CIDR ?? '',
    apiServers: parts(env.E2E_API_SERVERS ?? ''),
    channel: oneOf('E2E_CHANNEL', env.E2E_CHANNEL || 'any', CHANNELS),
    podLimitSeconds: seconds,
    only: values.check ?? [],
    artifacts: values.artifacts ?? 'e2e-artifacts',
    dryRun: values['dry-run'] ?? false,
    help: values.help ?? false,
    list: values.list ?? false,
    keep: values.keep ?? false,
  };
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        cluster: { type: 'string' },
        'proxy-mode': { type: 'string' },
        'ip-family': { type: 'string' },
        check: { type: 'string', multiple: true },
        deploy: { type: 'boolean' },
        artifacts: { type: 'string' },
        keep: { type: 'boolean' },
        'dry-run': { type: 'boolean' },
        list: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw new OptionsError((error as Error).message);
  }
}
