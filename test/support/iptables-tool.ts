// The iptables of this machine, nft variant.
import { spawnSync } from 'node:child_process';
import { delimiter } from 'node:path';
import type { Family } from '../../native/ip.ts';

const PROGRAM: Readonly<Record<Family, string>> = { IPv4: 'iptables', IPv6: 'ip6tables' };
/** An ordinary user's path has no administrator's programs. */
const env = { ...process.env, PATH: `${process.env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin` };

export interface ToolResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** `what`: '' for iptables itself, or `-save`, `-restore`. Never throws for an exit code. */
export function tryIptables(family: Family, what: string, args: readonly string[], input = ''): ToolResult {
  const program = `${PROGRAM[family]}-nft${what}`;
  const { error, status, stdout, stderr } = spawnSync(program, args, {
    encoding: 'utf8',
    input,
    maxBuffer: 1 << 30,
    env,
  });
  if (error) throw error;
  return { status, stdout, stderr };
}

/** Output of the command. @throws Error with what it said when it fails. */
export function iptables(family: Family, args: readonly string[]): string {
  const { status, stdout, stderr } = tryIptables(family, '', args);
  if (status !== 0) throw new Error(`${PROGRAM[family]} ${args.join(' ')}: exit code ${status}: ${stderr.trim()}`);
  return stdout;
}

/** Gives a script to iptables-restore. */
export function restore(family: Family, script: string, args: readonly string[] = []): void {
  const { status, stderr } = tryIptables(family, '-restore', args, script);
  if (status !== 0) throw new Error(`${PROGRAM[family]}-restore: exit code ${status}: ${stderr.trim()}`);
}

/** Lines of iptables-save without comments and counters. */
export function saved(family: Family, table?: string): string[] {
  const { status, stdout, stderr } = tryIptables(family, '-save', table === undefined ? [] : ['-t', table]);
  if (status !== 0 || stderr !== '') throw new Error(`${PROGRAM[family]}-save: exit code ${status}: ${stderr.trim()}`);
  return stdout
    .split('\n')
    .flatMap((line) => (line === '' || line.startsWith('#') ? [] : [line.replace(/ \[\d+:\d+\]$/, '')]));
}

/** Why it cannot be used here, or null. */
export function iptablesMissing(): string | null {
  const { error } = spawnSync('iptables-nft', ['--version'], { env });
  return error ? 'no program "iptables-nft"' : null;
}
