// Where a dump comes from: the running agent, the kernel, or manifests.
import type { NodeSettings } from '../../backends/service-plan.ts';
import { FAMILIES } from '../../native/ip.ts';
import { loadConfig } from '../config/load.ts';
import { normaliseNodeName } from '../config/node-name.ts';
import { type Config, ConfigError, type ProxyMode } from '../config/types.ts';
import type { UnknownService } from '../explain/explainer.ts';
import type { ServiceExplanation } from '../explain/explanation.ts';
import { nodeAddresses } from '../plan/node-addresses.ts';
import { nodeSettings } from '../plan/node-settings.ts';
import { resolvePrimary } from '../plan/nodeport-addresses.ts';
import type { Status } from '../status.ts';
import { askAgent, askAgentFor, NoAgent } from './agent-client.ts';
import { CommandError } from './command.ts';
import { printable } from './terminal.ts';

export interface DumpSource {
  readonly name: 'agent' | 'kernel' | 'manifests';
  readonly warnings: readonly string[];
  /** None when the source knows no objects. @throws CommandError when there is no such Service */
  explain(service?: string): Promise<readonly ServiceExplanation[]>;
  rules(service?: string): Promise<string>;
}

export interface ConfigOptions {
  /** Path; undefined = defaults, in the mode given. */
  readonly config: string | undefined;
  /** undefined: nftables. */
  readonly proxyMode: string | undefined;
  readonly readFile: (path: string) => string;
}

const HINTS = `
Is kubeplumb running on this node, with this --socket? Without an agent:
  agentctl dump --from kernel                  prints the rules that the kernel holds
  agentctl dump --manifests DIR --node NAME    prints the rules that manifests lead to`;

/** @throws NoAgent */
export async function fromAgent(socket: string): Promise<DumpSource> {
  const ask = async (path: string, service: string | undefined): Promise<string> => {
    const query = service === undefined ? '' : `?service=${encodeURIComponent(service)}`;
    const { status, body } = await askAgent(socket, path + query);
    if (status === 200) return body;
    const answer = JSON.parse(body) as Partial<UnknownService>;
    throw new CommandError(unknownText({ error: `status ${status}`, similar: [], problems: [], ...answer }));
  };
  try {
    await askAgentFor(socket, '/status');
  } catch (err) {
    throw err instanceof NoAgent ? new NoAgent(err.message + HINTS, { cause: err }) : err;
  }
  return {
    name: 'agent',
    warnings: [],
    explain: async (service) => JSON.parse(await ask('/explain', service)) as ServiceExplanation[],
    rules: (service) => ask('/dump', service),
  };
}

/** Settings are the running agent's if there is one, else as far as the configuration tells them. */
export async function fromKernel(options: ConfigOptions & { socket: string }): Promise<DumpSource> {
  const chosen = options.config !== undefined || options.proxyMode !== undefined;
  const running = chosen ? null : await settingsOfAgent(options.socket);
  const config = load(options);
  const { mode, settings } = running ?? { mode: config.mode, settings: settingsOf(config) };
  const { kernelRules } = await import('./from-kernel.ts');
  return {
    name: 'kernel',
    warnings: [],
    explain: async () => [],
    rules: async (service) => {
      const rules = await kernelRules(mode, settings, service);
      if (rules.trim() === '') throw new CommandError(`the kernel holds no rules of kubeplumb in mode ${mode}`);
      if (service !== undefined && !rules.includes(`comment "${service}`))
        throw new CommandError(`the kernel holds no rules of a Service ${service}`);
      return rules;
    },
  };
}

export async function fromManifests(
  options: ConfigOptions & { paths: readonly string[]; node: string | undefined },
): Promise<DumpSource> {
  const config = load(options);
  const nodeName = normaliseNodeName(options.node ?? config.hostnameOverride);
  if (nodeName === '') throw new CommandError('--manifests needs --node: what is local depends on it');
  const { renderOffline } = await import('./offline.ts');
  const { explainer, rules, warnings } = await renderOffline({ paths: options.paths, nodeName, config });
  return {
    name: 'manifests',
    warnings,
    explain: async (service) => {
      if (service === undefined) return JSON.parse([...explainer.allAsJson()].join('')) as ServiceExplanation[];
      const explanation = explainer.explain(service);
      if (explanation === null) throw new CommandError(unknownText(explainer.unknown(service)));
      return [explanation];
    },
    rules: async (service) => {
      if (service !== undefined && explainer.explain(service) === null)
        throw new CommandError(unknownText(explainer.unknown(service)));
      return rules(service);
    },
  };
}

function unknownText({ error, similar, problems }: UnknownService): string {
  const lines = [error];
  if (similar.length > 0) lines.push(`Did you mean ${similar.join(' or ')}?`);
  for (const { object, field, message } of problems) lines.push(printable(`${object} ${field}: ${message}`));
  if (similar.length === 0 && problems.length === 0 && error.includes('no Service'))
    lines.push('Headless and ExternalName Services need no proxy, nor do those with a service-proxy-name label.');
  return lines.join('\n');
}

async function settingsOfAgent(socket: string): Promise<{ mode: ProxyMode; settings: NodeSettings } | null> {
  try {
    const { mode, settings } = JSON.parse(await askAgentFor(socket, '/status')) as Status;
    return settings && { mode, settings };
  } catch (err) {
    if (err instanceof CommandError) return null;
    throw err;
  }
}

/** What can be said without knowing the Node and its interfaces. */
function settingsOf(config: Config): NodeSettings {
  const addresses = nodeAddresses({ node: null, bindAddress: config.bindAddress });
  return nodeSettings({
    conntrackBeLiberal: false,
    config,
    families: FAMILIES,
    podCidrs: [],
    nodePortCidrs: resolvePrimary(config.nodePortAddresses, addresses),
    interfaces: [],
    serviceCidrs: () => [],
  });
}

/** @throws CommandError with all that is wrong with the configuration */
function load({ config, proxyMode = 'nftables', readFile }: ConfigOptions): Config {
  try {
    const argv = config === undefined ? [`--proxy-mode=${proxyMode}`] : [`--config=${config}`];
    const loaded = loadConfig({ argv, readFile });
    if (loaded.action !== 'run') throw new Error(`unexpected action ${loaded.action}`);
    return loaded.config;
  } catch (err) {
    if (err instanceof ConfigError) throw new CommandError(err.problems.join('\n'), { cause: err });
    throw err;
  }
}
