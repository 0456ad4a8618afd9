// Runs a program to its end without blocking: kubectl, docker, kind.
import { spawn } from 'node:child_process';

export interface RunOptions {
  readonly input?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** The program is killed after it. Two minutes unless given. */
  readonly timeoutMs?: number;
  /** Its error output goes to this process's as well. */
  readonly loud?: boolean;
}

/** It could not be started, or did not end with 0. */
export class ProgramError extends Error {
  readonly stderr: string;

  constructor(program: string, args: readonly string[], how: string, stderr: string) {
    super(`${program} ${args.join(' ')}: ${how}${stderr && `: ${stderr.trim()}`}`);
    this.stderr = stderr;
  }
}

/** Of programs that run. Each leads a group, so that Ctrl-C at the terminal ends none that cleans up. */
const groups = new Set<number>();

function endGroup(group: number): void {
  try {
    process.kill(-group, 'SIGTERM');
  } catch {
    // It has just ended.
  }
}

/** Ends what runs now, with its children; its callers get a ProgramError. */
export function endPrograms(): void {
  for (const group of groups) endGroup(group);
}

/** @returns what it wrote. @throws ProgramError */
export function runProgram(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { input = '', timeoutMs = 120_000, loud = false, ...rest } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...rest, detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
    const { pid } = child;
    if (pid !== undefined) groups.add(pid);
    const timer = setTimeout(() => pid !== undefined && endGroup(pid), timeoutMs);
    const ended = (): void => {
      clearTimeout(timer);
      if (pid !== undefined) groups.delete(pid);
    };
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      if (loud) process.stderr.write(text);
    });
    child.on('error', (error) => {
      ended();
      reject(new ProgramError(program, args, error.message, ''));
    });
    child.on('close', (code, signal) => {
      ended();
      if (code === 0) resolve(stdout);
      else
        reject(new ProgramError(program, args, signal === null ? `exit code ${code}` : `ended by ${signal}`, stderr));
    });
    // A program that does not read its input is no failure.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}
