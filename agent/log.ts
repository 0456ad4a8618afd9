// The agent's log: one line a message on stderr, in a text like klog's or in klog's JSON, written through winston.
import winston from 'winston';
import { LogRepeats } from './log-repeats.ts';

export type LogFields = Readonly<Record<string, unknown>>;

/** Where the parts of the agent report to. An `err` field may hold any thrown value. */
export interface Log {
  error(msg: string, fields?: LogFields): void;
  warn(msg: string, fields?: LogFields): void;
  info(msg: string, fields?: LogFields): void;
  debug(msg: string, fields?: LogFields): void;
}

/** A Log whose verbosity can change while the process runs. */
export interface AdjustableLog extends Log {
  setVerbosity(verbosity: number): void;
}

export interface LogOptions {
  /** `logging.format` of the configuration. */
  readonly format?: 'text' | 'json';
  /** `logging.verbosity`: 4 and above shows debug lines. */
  readonly verbosity?: number;
  /** Where lines go; stderr unless given. */
  readonly stream?: NodeJS.WritableStream;
  readonly now?: () => number;
}

const DEBUG_VERBOSITY = 4;
const LETTERS: Readonly<Record<string, string>> = { error: 'E', warn: 'W', info: 'I', debug: 'I' };

/** Says what was thrown and why: message and code of the error and of each cause, outermost first. */
export function describeError(thrown: unknown): string {
  const parts: string[] = [];
  const seen = new Set<unknown>();
  for (let e = thrown; e !== undefined && e !== null && !seen.has(e); e = e instanceof Error ? e.cause : undefined) {
    seen.add(e);
    const text = describeOne(e);
    if (parts.at(-1)?.includes(text) !== true) parts.push(text);
  }
  return parts.join(': ') || 'unknown error';
}

function describeOne(e: unknown): string {
  if (!(e instanceof Error)) return typeof e === 'string' ? e : (JSON.stringify(e) ?? String(e));
  const code = 'code' in e && typeof e.code === 'string' ? e.code : '';
  // A refused connection to a name with several addresses has an empty message of its own.
  const message = e.message || (e instanceof AggregateError ? e.errors.map(describeOne).join(', ') : '') || e.name;
  return code === '' || message.includes(code) ? message : `${message} (${code})`;
}

/** A field as JSON can hold it: errors and big integers as text, at the top and nested. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, replacer) ?? 'null');
}

function replacer(_key: string, value: unknown): unknown {
  if (value instanceof Error) return describeError(value);
  if (typeof value === 'bigint') return value.toString();
  return value instanceof Map || value instanceof Set ? [...value] : value;
}

function fieldsOf(fields: LogFields | undefined): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields ?? {})) {
    if (value !== undefined) out[key] = key === 'err' ? describeError(value) : plain(value);
  }
  return out;
}

interface Line {
  readonly atMs: number;
  readonly level: string;
  readonly msg: string;
  readonly fields: Record<string, unknown>;
}

function jsonLine({ atMs, level, msg, fields }: Line): string {
  const v = level === 'error' ? {} : { v: level === 'debug' ? DEBUG_VERBOSITY : 0 };
  return JSON.stringify({ ...fields, ts: atMs, ...v, msg });
}

function textLine({ atMs, level, msg, fields }: Line): string {
  const [, month, day, time] = /^\d+-(\d+)-(\d+)T(.*)Z$/.exec(new Date(atMs).toISOString()) ?? [];
  const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${JSON.stringify(value)}`);
  return `${LETTERS[level]}${month}${day} ${time} ${String(process.pid).padStart(7)} kubeplumb] ${JSON.stringify(msg)}${pairs.join('')}`;
}

/** The format where nobody has chosen one: text for people at a terminal, JSON for what collects the logs of pods. */
export function defaultFormat(env: Readonly<Record<string, string | undefined>>, terminal: boolean): 'text' | 'json' {
  return env.KUBERNETES_SERVICE_HOST && !terminal ? 'json' : 'text';
}

/** Makes the process's log. Times are UTC. The same line is written once a minute at most, debug lines always. */
export function createLog(options: LogOptions = {}): AdjustableLog {
  const { format = 'text', verbosity = 0, stream = process.stderr, now = Date.now } = options;
  let debugging = verbosity >= DEBUG_VERBOSITY;
  const render = format === 'json' ? jsonLine : textLine;
  const logger = winston.createLogger({
    level: 'debug',
    exitOnError: false,
    format: winston.format.printf(({ message }) => String(message)),
    transports: [new winston.transports.Stream({ stream, eol: '\n' })],
  });
  // winston sees finished lines only: it would drop messages of nested errors and write into the error objects it is given.
  const repeats = new LogRepeats(now);
  const write = (level: string) => (msg: string, given?: LogFields) => {
    const fields = fieldsOf(given);
    const leftOut = level === 'debug' ? 0 : repeats.next(`${level} ${msg} ${JSON.stringify(fields)}`);
    if (leftOut === null) return;
    if (leftOut > 0) fields.repeats = leftOut;
    if (debugging && given?.err instanceof Error) fields.stack = given.err.stack;
    logger.log(level, render({ atMs: now(), level, msg, fields }));
  };
  const writeDebug = write('debug');
  return {
    error: write('error'),
    warn: write('warn'),
    info: write('info'),
    debug: (msg, fields) => {
      if (debugging) writeDebug(msg, fields);
    },
    setVerbosity: (value) => {
      debugging = value >= DEBUG_VERBOSITY;
    },
  };
}

/** Answers whether a message about `key` is due: at most one per `intervalMs` for each key. */
export function onceEvery(intervalMs: number, now: () => number = Date.now): (key: string) => boolean {
  const last = new Map<string, number>();
  return (key) => {
    const at = now();
    const before = last.get(key);
    if (before !== undefined && at - before < intervalMs) return false;
    for (const [old, time] of last) if (at - time >= intervalMs) last.delete(old);
    last.set(key, at);
    return true;
  };
}
