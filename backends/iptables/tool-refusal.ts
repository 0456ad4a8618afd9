// What iptables-restore says when it refuses its input: which lines, and why, as far as it tells.
import type { Family } from '../../native/ip.ts';
import type { RuleRefusal } from './netlink-writer.ts';
import type { RestoreLine } from './restore-text.ts';

/** Lines of input around the one at fault that are told (I-41). */
const CONTEXT = 3;
const MOST_REFUSALS = 50;

/** Numbers of lines, from 1, with the tool's words; empty when it names none. */
export function failedLines(stderr: string): Map<number, string> {
  const out = new Map<number, string>();
  let words = '';
  for (const line of stderr.split('\n')) {
    const [, number, text] =
      /\bline (\d+) failed(?:: (.*))?$/.exec(line) ??
      /^line (\d+): (.*)$/.exec(line) ??
      /^Error occurred at line: (\d+)$/.exec(line) ??
      [];
    if (number !== undefined && out.size < MOST_REFUSALS) out.set(Number(number), text ?? words);
    else if (line !== '') words = line.replace(/^\S+ v\S+ \((legacy|nf_tables)\): ?/, '');
  }
  return out;
}

const CODES: readonly [RegExp, string][] = [
  [/resource busy/, 'EBUSY'],
  [/too many links/i, 'EMLINK'],
  [/already exists|file exists/i, 'EEXIST'],
  [/no such file|does not exist|by that name|does a matching rule exist/i, 'ENOENT'],
];
/** The legacy variant does not tell why; these are the reasons a line of the kind can have. */
const CODE_OF_COMMAND: Readonly<Record<string, string>> = { '-N': 'EEXIST', '-X': 'EBUSY', '-D': 'ENOENT' };

export interface FoundLines {
  readonly refusals: readonly RuleRefusal[];
  /** Tables that were complete before the first line at fault: they are written. */
  readonly committed: number;
}

/** Finds the lines at fault in the input, which is made once more for that. */
export function findLines(
  family: Family,
  lines: Iterable<RestoreLine>,
  failed: ReadonlyMap<number, string>,
): FoundLines {
  const refusals: RuleRefusal[] = [];
  const last = Math.max(...failed.keys());
  const before: string[] = [];
  const open: { line: RestoreLine; words: string; context: string[]; missing: number }[] = [];
  let number = 0;
  let committed = 0;
  const close = (entry: (typeof open)[number]): void => {
    const { table, chain, rule, text } = entry.line;
    const code = CODES.find(([pattern]) => pattern.test(entry.words))?.[1] ?? CODE_OF_COMMAND[text.slice(0, 2)];
    const where = `${table}: ${chain === null ? 'the table' : `chain ${chain}`}`;
    const why = entry.words === '' ? 'refused' : entry.words;
    const message = `${where}: ${why}\n${entry.context.join('\n')}`;
    refusals.push({ code: code ?? 'EINVAL', message, family, table, chain, rule });
  };
  for (const line of lines) {
    number++;
    const told = `${number}: ${line.text}`;
    for (const entry of open) {
      if (entry.missing-- > 0) entry.context.push(told);
    }
    const words = failed.get(number);
    if (words !== undefined) open.push({ line, words, context: [...before, told], missing: CONTEXT });
    if (open.length === 0 && line.text === 'COMMIT') committed++;
    before.push(told);
    if (before.length > CONTEXT) before.shift();
    if (number >= last + CONTEXT) break;
  }
  for (const entry of open) close(entry);
  return { refusals, committed };
}
