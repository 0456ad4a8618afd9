// Runs agentctl inside the test's process, and finds its fixtures.
import { fileURLToPath } from 'node:url';
import { runAgentctl } from '../../agent/ctl/program.ts';
import { plainStyle } from '../../agent/ctl/terminal.ts';

/** A small cluster with one of everything, as seen from node-a. */
export const MANIFESTS = fileURLToPath(new URL('../fixtures/manifests', import.meta.url));
export const AGENTCTL = fileURLToPath(new URL('../../agent/agentctl.ts', import.meta.url));

export interface CtlResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export async function agentctl(...argv: readonly string[]): Promise<CtlResult> {
  let out = '';
  let err = '';
  const code = await runAgentctl(argv, {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    style: plainStyle,
  });
  return { code, out, err };
}
