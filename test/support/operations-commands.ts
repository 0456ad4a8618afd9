// Command lines that end at once, mostly with an error: how kube-proxy and the agent end, and what they say.
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const BROKEN = fileURLToPath(new URL('../fixtures/config/broken/', import.meta.url));

/** Nobody listens there: an accepted configuration waits for it. */
const NO_SERVER = '--master=http://127.0.0.1:1';

/** By name: `CONFIG` stands for the folder of broken files. */
export const COMMANDS: Readonly<Record<string, readonly string[]>> = {
  ...Object.fromEntries(
    readdirSync(BROKEN)
      .sort()
      .map((file) => [file, [`--config=CONFIG/${file}`, NO_SERVER]]),
  ),
  'no such file': ['--config=CONFIG/none', NO_SERVER],
  'unknown flag': ['--nonsense', NO_SERVER],
  'positional argument': ['extra', NO_SERVER],
  'flag without its value': [NO_SERVER, '--proxy-mode'],
  'unknown mode': ['--proxy-mode=ebpf', NO_SERVER],
  'duration in words': ['--iptables-sync-period=soon', NO_SERVER],
  'duration without a unit': ['--iptables-sync-period=30', NO_SERVER],
  'number in words': ['--oom-score-adj=low', NO_SERVER],
  'boolean in words': ['--masquerade-all=perhaps', NO_SERVER],
  'bind address is a name': ['--bind-address=node-a', NO_SERVER],
  'metrics address without port': ['--metrics-bind-address=127.0.0.1:', NO_SERVER],
  'health port too large': ['--healthz-port=102560', NO_SERVER],
  'metrics port 0': ['--metrics-port=0', NO_SERVER],
  'empty cluster CIDR': ['--cluster-cidr=', NO_SERVER],
  'unknown feature gate': ['--feature-gates=NoSuchGate=true', NO_SERVER],
  'old version of metrics': ['--show-hidden-metrics-for-version=1.20', NO_SERVER],
  'two errors': ['--oom-score-adj=-1001', '--proxy-mode=ebpf', NO_SERVER],
  'kubeconfig that does not exist': ['--kubeconfig=CONFIG/none'],
  'no API server named': ['--proxy-mode=nftables'],
  version: ['--version'],
  'version raw': ['--version=raw'],
  help: ['--help'],
  'help in short': ['-h'],
};

/** How a program ended. */
export interface Ending {
  /** Exit code, or `runs` when it went on. */
  readonly exit: number | 'runs';
  /** Whether it wrote to stdout. */
  readonly stdout: boolean;
  /** Its errors on stderr; of one that goes on, its warnings about the command line. */
  readonly message: string;
}

const ERROR = /^(E\d{4} |Error: |kubeplumb: )/;
const WARNING = /^(Flag |W\d{4} (?!.*Watch failed))/;
const KLOG = /^[IWEF]\d{4} [\d:.]+ +\d+ ([a-z_]+\.go:\d+|kubeplumb)\] /;

/** The arguments of a case. */
export const argumentsOf = (name: string): string[] => COMMANDS[name]!.map((arg) => arg.replace('CONFIG/', BROKEN));

/** Runs a program with the arguments of a case, for as long as it takes, at most `limitMs`. */
export async function endingOf(program: readonly string[], name: string, limitMs: number): Promise<Ending> {
  const [file = '', ...first] = program;
  // Without what a pod would be told.
  const env = { PATH: process.env.PATH };
  const child = spawn(file, [...first, ...argumentsOf(name)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: limitMs,
    killSignal: 'SIGKILL',
    env,
  });
  const text = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]!.on('data', (part) => {
      text[stream] += part;
    });
  }
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  const lines = text.stderr.trimEnd().replaceAll(BROKEN, '').split('\n');
  const exit = code ?? 'runs';
  const start = lines.findIndex((line) => ERROR.test(line));
  const told = exit === 'runs' ? lines.filter((line) => WARNING.test(line)) : start < 0 ? [] : lines.slice(start);
  return {
    exit,
    stdout: text.stdout !== '',
    message: [...new Set(told.map((line) => line.replace(KLOG, '')))].join('\n'),
  };
}

/** The recording of a case as a row of docs/compared.md. */
export function rowOf(name: string, both: Readonly<Record<'kube-proxy' | 'kubeplumb', Ending>>): string {
  const cell = ({ exit, message }: Ending): string => {
    const told = message
      .replace(/^"command failed" err=/, '')
      .split('\n')
      .map((line) => `\`${line.replaceAll('|', '\\|')}\``);
    return `${exit}: ${message === '' ? '' : told.join('<br>')}`.trim();
  };
  return `| ${name} | ${cell(both['kube-proxy'])} | ${cell(both.kubeplumb)} |`;
}
