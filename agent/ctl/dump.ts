// `agentctl dump`
import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import type { Family } from '../../native/ip.ts';
import { DEFAULT_SOCKET } from '../config/flag-table.ts';
import { PROXY_MODES } from '../config/types.ts';
import { CommandError, type Io } from './command.ts';
import { type DumpSource, fromAgent, fromKernel, fromManifests } from './dump-source.ts';
import { explanationText } from './explanation-text.ts';
import { selectTables } from './rules-text.ts';

const HELP = `
Without --service the rules are printed as nft, iptables-save or ipvsadm prints them. With it, an explanation comes first: the addresses of the
Service, where each kind of traffic goes, the share of each endpoint, and why endpoints are left out.

Examples:
  agentctl dump                                       all rules of the running agent
  agentctl dump --service shop/web                    why is it that way
  agentctl dump --service shop/web --output rules     its rules only
  agentctl dump --from kernel                         what the kernel holds, also without an agent
  agentctl dump --manifests examples/shop --node demo-node    what an agent would do there; needs no root

Without --config all settings have their defaults, but for the mode, which --proxy-mode tells.

Exit codes:
  0  printed
  1  the agent or the kernel cannot be asked, there is no such Service, or the command line is wrong
`;

interface DumpOptions {
  readonly service?: string;
  readonly output: 'text' | 'json' | 'rules';
  readonly from: 'agent' | 'kernel';
  readonly family?: Family;
  readonly manifests?: string[];
  readonly node?: string;
  readonly config?: string;
  readonly proxyMode?: string;
  readonly socket: string;
}

export function addDumpCommand(program: Command, io: Io): void {
  program
    .command('dump')
    .summary('print rules, and explain a Service')
    .description('Prints the rules of this node, or explains a Service.')
    .addOption(new Option('-s, --service <namespace/name>', 'only this Service, with an explanation'))
    .addOption(
      new Option('-o, --output <format>', 'text; json: explanations and lines of rules; rules: no explanation')
        .choices(['text', 'json', 'rules'])
        .default('text'),
    )
    .addOption(new Option('--from <source>', 'who is asked').choices(['agent', 'kernel']).default('agent'))
    .addOption(new Option('--family <family>', 'only this family').choices(['IPv4', 'IPv6']))
    .addOption(
      new Option('--manifests <paths...>', 'files or folders of manifests: nobody is asked').conflicts([
        'from',
        'socket',
      ]),
    )
    .addOption(new Option('--node <name>', 'the node whose rules the manifests make'))
    .addOption(new Option('--config <file>', "the agent's configuration, for --manifests and --from kernel"))
    .addOption(
      new Option('--proxy-mode <mode>', 'the mode, without --config (default: nftables)')
        .choices(PROXY_MODES)
        .conflicts('config'),
    )
    .addOption(new Option('--socket <path>', 'Unix socket of the agent').default(DEFAULT_SOCKET))
    .addHelpText('after', HELP)
    .action((options: DumpOptions) => dump(options, io));
}

async function dump(options: DumpOptions, io: Io): Promise<void> {
  const { service, output, family = null } = options;
  if (service !== undefined && !/^[^/]+\/[^/]+$/.test(service))
    throw new CommandError(`--service ${service}: write it as namespace/name, such as default/${service}`);
  const source = await open(options);
  for (const warning of source.warnings) io.err(`agentctl: warning: ${warning}\n`);
  const wanted = output === 'json' || (output === 'text' && service !== undefined);
  const explanations = (wanted ? await source.explain(service) : []).map((explanation) => ({
    ...explanation,
    ports: explanation.ports.filter((port) => family === null || port.family === family),
  }));
  const rules = selectTables(await source.rules(service), family);
  if (output === 'json') {
    const lines = rules.split('\n').slice(0, -1);
    io.out(`${JSON.stringify({ source: source.name, services: explanations, rules: lines }, null, 2)}\n`);
    return;
  }
  for (const explanation of explanations) io.out(`${explanationText(explanation, io.style)}\n`);
  if (explanations.length > 0 && rules !== '') io.out(io.style('bold', 'Rules\n\n'));
  io.out(rules);
}

function open(options: DumpOptions): Promise<DumpSource> {
  const { manifests, node, config, proxyMode, socket, from } = options;
  const readFile = (path: string): string => readFileSync(path, 'utf8');
  if (manifests !== undefined) return fromManifests({ paths: manifests, node, config, proxyMode, readFile });
  if (node !== undefined) throw new CommandError('--node is for --manifests: agents and kernels know who they are');
  return from === 'kernel' ? fromKernel({ socket, config, proxyMode, readFile }) : fromAgent(socket);
}
