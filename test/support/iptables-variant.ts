// The iptables of this machine in one variant and family, for tests that change rules as others would.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { delimiter } from 'node:path';
import type { Variant } from '../../backends/iptables/run-tool.ts';
import { ToolRules } from '../../backends/iptables/tool-rules.ts';
import type { Family } from '../../native/ip.ts';
import { inUserNamespace } from './namespaces.ts';

/** An ordinary user's path has no administrator's programs. */
const env = { ...process.env, PATH: `${process.env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin` };

export class TestTool {
  readonly program: string;

  constructor(variant: Variant, family: Family) {
    this.program = `${family === 'IPv4' ? 'iptables' : 'ip6tables'}-${variant}`;
  }

  /** Why it cannot be used here, or false. */
  get missing(): string | false {
    return spawnSync(this.program, ['--version'], { env }).error !== undefined && `no program "${this.program}"`;
  }

  #run(what: '' | '-save' | '-restore', args: readonly string[], input = ''): string {
    const program = this.program + what;
    const { error, status, stdout, stderr } = spawnSync(program, args, {
      encoding: 'utf8',
      input,
      maxBuffer: 1 << 30,
      env,
    });
    if (error) throw error;
    if (status !== 0) throw new Error(`${program} ${args.join(' ')}: exit code ${status}: ${stderr.trim()}`);
    return stdout;
  }

  /** @throws Error with what it said when it fails. */
  run(...args: string[]): string {
    return this.#run('', ['-w', '5', ...args]);
  }

  restore(script: string, ...args: string[]): void {
    this.#run('-restore', ['-w', '5', ...args], script);
  }

  /** Lines without comments and counters. In the legacy variant a table that is asked for is created. */
  saved(table?: string): string[] {
    return this.#run('-save', table === undefined ? [] : ['-t', table])
      .split('\n')
      .flatMap((line) => (line === '' || line.startsWith('#') ? [] : [line.replace(/ \[\d+:\d+\]$/, '')]));
  }

  /** Empties all tables. */
  clear(): void {
    const tables = ['nat', 'filter', 'mangle'];
    const lines = (table: string): string => {
      const chains = this.saved(table).filter((line) => /^:\S+ (ACCEPT|DROP)$/.test(line));
      return [`*${table}`, ...chains.map((line) => line.replace('DROP', 'ACCEPT')), 'COMMIT', ''].join('\n');
    };
    this.restore(tables.map(lines).join(''));
  }
}

/** Rules through the tools; without privileges on the host these can send only little at once. */
export function toolRules(variant: Variant): ToolRules {
  return new ToolRules({ variant, ...(inUserNamespace() && { chainsPerRun: 60 }) });
}

/** Runs a shell script beside the test. */
export function beside(script: string): {
  child: ChildProcess;
  ended: Promise<{ status: number | null; stderr: string }>;
} {
  const child = spawn('sh', ['-c', script], { stdio: ['ignore', 'ignore', 'pipe'], env });
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = new Promise<{ status: number | null; stderr: string }>((resolve) =>
    child.once('close', (status) => resolve({ status, stderr })),
  );
  return { child, ended };
}
