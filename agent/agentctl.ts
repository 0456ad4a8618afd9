#!/usr/bin/env node
// `agentctl`, the client of the agent: see `agentctl --help`.
import { runAgentctl } from './ctl/program.ts';
import { styleFor } from './ctl/terminal.ts';

// A reader such as `head` may leave when it has seen enough.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (err: NodeJS.ErrnoException) => process.exit(err.code === 'EPIPE' ? 0 : 1));
}

// The exit code is set, not called for: what is on its way into a pipe gets there.
process.exitCode = await runAgentctl(process.argv.slice(2), {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  style: styleFor(process.stdout, process.env),
});
