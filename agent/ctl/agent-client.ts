// Asks the running agent through its Unix socket.
import { request } from 'node:http';
import { CommandError } from './command.ts';

export interface AgentAnswer {
  readonly status: number;
  readonly body: string;
}

/** The agent cannot be reached. */
export class NoAgent extends CommandError {}

const IDLE_MS = 10_000;

/** @throws NoAgent */
export function askAgent(socket: string, path: string): Promise<AgentAnswer> {
  return new Promise((resolve, reject) => {
    const failed = (err: NodeJS.ErrnoException): void => reject(new NoAgent(why(socket, err), { cause: err }));
    const asked = request({ socketPath: socket, path, timeout: IDLE_MS }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', failed);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }),
      );
    });
    asked.on('error', failed);
    asked.on('timeout', () => asked.destroy(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' })));
    asked.end();
  });
}

/** The body of a good answer. @throws NoAgent, and CommandError with what the agent says otherwise */
export async function askAgentFor(socket: string, path: string): Promise<string> {
  const { status, body } = await askAgent(socket, path);
  if (status === 200) return body;
  throw new CommandError(errorOf(body) ?? `the agent answers with status ${status}`);
}

/** The `error` of a body of JSON. */
function errorOf(body: string): string | null {
  try {
    const value: unknown = JSON.parse(body);
    const { error } = value as { error?: unknown };
    return typeof error === 'string' ? error : null;
  } catch {
    return null;
  }
}

function why(socket: string, err: NodeJS.ErrnoException): string {
  switch (err.code) {
    case 'ENOENT':
      return `no agent is running here: there is no socket ${socket}`;
    case 'ECONNREFUSED':
      return `no agent is running here: nobody listens on ${socket}`;
    case 'EACCES':
    case 'EPERM':
      return `not permitted to use ${socket}: run agentctl as root`;
    case 'ETIMEDOUT':
      return `the agent does not answer on ${socket}`;
    default:
      return `cannot ask the agent on ${socket}: ${err.message}`;
  }
}
