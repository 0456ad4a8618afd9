// Runs the iptables tools: no shell, input and output in pieces with turns for the event loop between them, an end
// to everything. Nothing else in this folder starts a process.
import { spawn } from 'node:child_process';
import { delimiter } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Breather } from '../../native/breather.ts';
import type { Family } from '../../native/ip.ts';

export type Variant = 'nft' | 'legacy';

export interface ToolRun {
  readonly program: string;
  readonly args: readonly string[];
  /** Pieces of text; none by default. An error thrown here ends the run without the rest of the input. */
  readonly input?: Iterable<string>;
  /** Takes the output line by line; without it the output is dropped. */
  readonly line?: (line: string) => void;
}

export interface ToolEnd {
  readonly status: number;
  /** At most STDERR_LIMIT characters of it. */
  readonly stderr: string;
}

/** Ends with any exit code. @throws ToolMissing; Error when the program does not end by itself, or writes too much. */
export type RunTool = (run: ToolRun) => Promise<ToolEnd>;

export class ToolMissing extends Error {
  constructor(program: string, cause: unknown) {
    super(`no program "${program}"`, { cause });
    this.name = 'ToolMissing';
  }
}

export interface Limits {
  readonly milliseconds: number;
  /** Characters of output. */
  readonly output: number;
}

/** I-52. The rules of 10,000 Services of 5 endpoints are 20 MB of text. */
const LIMITS: Limits = { milliseconds: 300_000, output: 1 << 30 };
const STDERR_LIMIT = 1 << 16;

/**
 * A legacy tool copies the whole table, 100 MB of rules for 10,000 Services of 5 endpoints, and a fifth of its time went
 * into 77,000 page faults. A heap of huge pages that only grows, and in large steps, leaves 400; what is left is the
 * kernel's. Other C libraries than glibc overlook it.
 */
const MEMORY = {
  GLIBC_TUNABLES: ['hugetlb=1', 'top_pad=67108864', 'mmap_threshold=1073741824', 'trim_threshold=1073741824']
    .map((setting) => `glibc.malloc.${setting}`)
    .join(':'),
};

/** An ordinary path may lack the folders of administrators' programs. */
function environment(): NodeJS.ProcessEnv {
  const path = [process.env.PATH ?? '', '/usr/sbin', '/sbin'].join(delimiter);
  return { ...MEMORY, ...process.env, LC_ALL: 'C', PATH: path };
}

export function toolRunner(limits: Limits = LIMITS): RunTool {
  return ({ program, args, input = [], line }) =>
    new Promise((resolve, reject) => {
      const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], env: environment() });
      let failure: unknown = null;
      const giveUp = (error: unknown): void => {
        failure ??= error;
        child.kill('SIGKILL');
      };
      const { milliseconds } = limits;
      const late = (): void => giveUp(new Error(`${program}: no end after ${milliseconds / 1000} s`));
      const timer = setTimeout(late, milliseconds);
      child.once('error', (error: NodeJS.ErrnoException) => {
        clearTimeout(timer);
        // EACCES: no folder of the path has one that may be run.
        const missing = error.code === 'ENOENT' || error.code === 'EACCES';
        reject(missing ? new ToolMissing(program, error) : error);
      });
      let stderr = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr = (stderr + text).slice(0, STDERR_LIMIT);
      });
      const output = readLines(child.stdout, limits.output, line).catch((error: unknown) =>
        giveUp(new Error(`${program}: ${(error as Error).message}`, { cause: error })),
      );
      // A tool that refuses its input may end before it has read all: its exit code tells.
      const pieces = inTurns(input, (error) => giveUp(error));
      pipeline(Readable.from(pieces), child.stdin).catch(() => {});
      child.once('close', async (status, signal) => {
        clearTimeout(timer);
        await output;
        if (failure !== null) reject(failure);
        else if (status === null) reject(new Error(`${program}: ended by ${signal}`));
        else resolve({ status, stderr: withRemedy(stderr.trim()) });
      });
    });
}

/** What the tools call "be root" are two capabilities, which a container can lack one by one. */
function withRemedy(stderr: string): string {
  const refused = /permission denied|you must be root/i.test(stderr);
  return refused ? `${stderr}; it needs CAP_NET_ADMIN, and iptables-legacy CAP_NET_RAW too` : stderr;
}

/** `failed` is told of an error of the input itself; that the program has ended is none. */
async function* inTurns(input: Iterable<string>, failed: (error: unknown) => void): AsyncGenerator<string> {
  const breather = new Breather();
  const pieces = input[Symbol.iterator]();
  for (;;) {
    let piece: IteratorResult<string>;
    try {
      piece = pieces.next();
    } catch (error) {
      failed(error);
      throw error;
    }
    if (piece.done) return;
    yield piece.value;
    if (breather.due) await breather.rest();
  }
}

async function readLines(stream: Readable, limit: number, take: ToolRun['line']): Promise<void> {
  let rest = '';
  let total = 0;
  for await (const chunk of stream.setEncoding('utf8')) {
    total += chunk.length;
    if (total > limit) throw new Error(`more than ${limit} characters of output`);
    if (!take) continue;
    const lines = (rest + chunk).split('\n');
    rest = lines.pop()!;
    for (const line of lines) take(line);
  }
  if (rest !== '') take?.(rest);
}

/** The programs of one family and variant. */
export interface Tool {
  readonly family: Family;
  readonly variant: Variant;
  /** Such as `1.8.9`. */
  readonly version: string;
  program(what: '' | '-save' | '-restore'): string;
}

/** The first version whose restore waits for others (I-51), and that chooses source ports at random (I-10). */
const OLDEST = [1, 6, 2];

/**
 * The programs named for the variant, else those without suffix if they are of the variant.
 * @throws ToolMissing when there are none; Error when they are too old.
 */
export async function findTool(run: RunTool, variant: Variant, family: Family): Promise<Tool> {
  const base = family === 'IPv4' ? 'iptables' : 'ip6tables';
  let missing: unknown;
  for (const prefix of [`${base}-${variant}`, base]) {
    let text = '';
    try {
      await run({ program: prefix, args: ['--version'], line: (line) => (text += line) });
    } catch (error) {
      if (!(error instanceof ToolMissing)) throw error;
      missing ??= error;
      continue;
    }
    const version = /v(\d+(?:\.\d+)*)/.exec(text)?.[1] ?? '0';
    // Before 1.8 there was one variant, and no word about it.
    if ((text.includes('nf_tables') ? 'nft' : 'legacy') !== variant) continue;
    if (olderThan(version, OLDEST)) {
      throw new Error(`${prefix} is of version ${version}; ${OLDEST.join('.')} or newer is needed`);
    }
    return { family, variant, version, program: (what) => prefix + what };
  }
  throw missing;
}

function olderThan(version: string, oldest: readonly number[]): boolean {
  const numbers = version.split('.').map(Number);
  for (const [i, least] of oldest.entries()) if ((numbers[i] ?? 0) !== least) return (numbers[i] ?? 0) < least;
  return false;
}
