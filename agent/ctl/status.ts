// `agentctl status`
import { type Command, Option } from 'commander';
import { DEFAULT_SOCKET } from '../config/flag-table.ts';
import type { Status } from '../status.ts';
import { askAgentFor } from './agent-client.ts';
import type { Io } from './command.ts';
import { statusText } from './status-text.ts';

const HELP = `
Examples:
  agentctl status                           how the agent of this node is
  agentctl status --output json | jq .sync  the same for programs

Exit codes:
  0  healthy; objects that are broken themselves are listed, but do not count
  1  the agent cannot be asked, or the command line is wrong
  2  starting, degraded (some of it does not work) or unhealthy
`;

export function addStatusCommand(program: Command, io: Io, exit: (code: number) => void): void {
  program
    .command('status')
    .summary('show how the agent is')
    .description('Shows health, syncs, watches and problems of the running agent.')
    .addOption(new Option('-o, --output <format>', 'how to print it').choices(['text', 'json']).default('text'))
    .addOption(new Option('--socket <path>', 'Unix socket of the agent').default(DEFAULT_SOCKET))
    .addHelpText('after', HELP)
    .action(async (options: { output: 'text' | 'json'; socket: string }) => {
      const status = JSON.parse(await askAgentFor(options.socket, '/status')) as Status;
      io.out(options.output === 'json' ? `${JSON.stringify(status, null, 2)}\n` : statusText(status, io.style));
      exit(status.verdict === 'healthy' ? 0 : 2);
    });
}
