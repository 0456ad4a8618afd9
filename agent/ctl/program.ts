// The command line of agentctl.
import { Command, CommanderError } from 'commander';
import { describeError } from '../log.ts';
import { VERSION } from '../version.ts';
import { CommandError, type Io } from './command.ts';
import { addDumpCommand } from './dump.ts';
import { addStatusCommand } from './status.ts';

const HELP = `
Examples:
  agentctl status                                     is the agent of this node well
  agentctl dump --service shop/web                    where traffic of a Service goes, and why
  agentctl dump --manifests examples/shop --node demo-node    the rules that manifests lead to; needs no root

Each command has more: agentctl COMMAND --help. Colours are for terminals, and not used when NO_COLOR is set.
`;

/** Runs one command. @returns the exit code */
export async function runAgentctl(argv: readonly string[], io: Io): Promise<number> {
  let code = 0;
  const program = new Command('agentctl')
    .description('Asks kubeplumb, the Service proxy of this node, what it does and why.')
    .version(VERSION)
    .addHelpText('after', HELP)
    .exitOverride()
    .configureOutput({ writeOut: io.out, writeErr: io.err })
    .showHelpAfterError('(agentctl --help tells more)');
  addStatusCommand(program, io, (wanted) => {
    code = wanted;
  });
  addDumpCommand(program, io);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return code;
  } catch (err) {
    if (err instanceof CommanderError) return err.exitCode; // it has told already
    const text = err instanceof CommandError ? err.message : describeError(err);
    io.err(`agentctl: ${text}\n`);
    return 1;
  }
}
