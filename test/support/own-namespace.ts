// Moves a test file as a whole into a network namespace of its own, where it may do as it likes with nf_tables.
import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { BackendEvents, Drift } from '../../backends/backend.ts';
import { setns } from '../../native/libc.ts';
import { createNamespaces, ipBatch, namespaceName, namespacesMissing } from './namespaces.ts';

const CLONE_NEWNET = 0x40000000;

interface Skippable {
  test(name: string, options: { skip: string }, body: () => Promise<void>): unknown;
}

/**
 * Await it at the top of the file, before the first test; false, with a skipped test that tells why, when there can be
 * no namespace. It goes when the process ends.
 */
export async function enterNamespace(t: Skippable): Promise<boolean> {
  const reason = await namespacesMissing();
  if (reason !== null) {
    t.test('with a kernel', { skip: reason }, async () => {});
    return false;
  }
  createNamespaces(['node']);
  const fd = openSync(`/run/netns/${namespaceName('node')}`, 'r');
  setns(fd, CLONE_NEWNET);
  closeSync(fd);
  ipBatch(['link set lo up']);
  return true;
}

/** Runs nft. @returns what it prints. @throws Error with its error output; a crash is an error too. */
export function nft(...args: string[]): string {
  const { status, signal, stdout, stderr, error } = spawnSync('nft', args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (error) throw error;
  if (status !== 0) throw new Error(`nft ${args.join(' ')}: ${signal ?? `exit code ${status}`}: ${stderr.trim()}`);
  return stdout;
}

/** Gives nft commands, one a line: all of them or none. */
export function nftScript(lines: readonly string[]): void {
  const { status, stderr } = spawnSync('nft', ['-f', '-'], { input: `${lines.join('\n')}\n`, encoding: 'utf8' });
  if (status !== 0) throw new Error(`nft -f: ${stderr.trim()}`);
}

/** Events of a backend, kept. */
export class EventLog implements BackendEvents {
  readonly drifts: Drift[] = [];
  readonly conditions = new Map<string, string | null>();
  readonly errors: string[] = [];

  note(): void {}

  drift(drift: Drift): void {
    this.drifts.push(drift);
  }

  condition(name: string, message: string | null): void {
    this.conditions.set(name, message);
  }

  error(message: string, error: unknown): void {
    this.errors.push(`${message}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
