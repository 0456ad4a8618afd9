// Wrong command lines and files end as recorded beside kube-proxy 1.36 (fixtures/operations/endings.json): the same are
// refused, with the same exit code, and the messages are ours. docs/compared.md tells what differs.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { loadConfig } from '../../agent/config/load.ts';
import { ConfigError } from '../../agent/config/types.ts';
import { createNamespaces, namespacesMissing, within } from '../support/namespaces.ts';
import { argumentsOf, BROKEN, COMMANDS, type Ending, endingOf, rowOf } from '../support/operations-commands.ts';

const missing = await namespacesMissing();
const MAIN = fileURLToPath(new URL('../../agent/main.ts', import.meta.url));
const PROGRAM_MS = 60_000;
const url = new URL('../fixtures/operations/endings.json', import.meta.url);
const recorded: Record<string, Record<'kube-proxy' | 'kubeplumb', Ending>> = JSON.parse(readFileSync(url, 'utf8'));

/** Found only after the kernel was tried. */
const IN_THE_KERNEL = ['kubeconfig that does not exist', 'no API server named'];
const AS_PROGRAM = [
  'unknown flag',
  'two errors',
  'unknown-mode.yaml',
  'version',
  'version raw',
  'help',
  'help in short',
];

/** Accepted by kube-proxy with a warning. */
const REFUSED_HERE_ONLY = ['gate-unknown.yaml', 'unknown feature gate'];

function problemsOf(name: string): readonly string[] | null {
  try {
    loadConfig({ argv: argumentsOf(name), readFile: (path) => readFileSync(path, 'utf8') });
    return null;
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

t.test('exit codes are those of kube-proxy', async (t) => {
  t.strictSame(Object.keys(recorded), Object.keys(COMMANDS));
  for (const [name, { 'kube-proxy': theirs, kubeplumb: ours }] of Object.entries(recorded)) {
    if (REFUSED_HERE_ONLY.includes(name)) t.strictSame([theirs.exit, ours.exit], ['runs', 1], name);
    else t.strictSame([ours.exit, ours.stdout], [theirs.exit, theirs.stdout], name);
  }
});

t.test('configurations are refused as recorded', async (t) => {
  for (const [name, { kubeplumb }] of Object.entries(recorded)) {
    if (IN_THE_KERNEL.includes(name)) continue;
    const problems = problemsOf(name);
    t.equal(problems === null, kubeplumb.exit !== 1, name);
    if (problems === null) continue;
    const message = problems.map((problem) => `kubeplumb: ${problem.replaceAll(BROKEN, '')}`).join('\n');
    t.equal(message, kubeplumb.message, name);
  }
});

t.test('the program ends as recorded', async (t) => {
  for (const name of AS_PROGRAM) {
    t.strictSame(await endingOf([process.execPath, MAIN], name, PROGRAM_MS), recorded[name]?.kubeplumb, name);
  }
});

t.test('so it does where the kernel is tried first', { skip: missing ?? false }, async (t) => {
  createNamespaces(['bare']);
  for (const name of IN_THE_KERNEL) {
    const ending = await within('bare', () => endingOf([process.execPath, MAIN], name, PROGRAM_MS));
    t.strictSame(ending, recorded[name]?.kubeplumb, name);
  }
});

t.test('the document tells what was recorded', async (t) => {
  const document = readFileSync(new URL('../../docs/compared.md', import.meta.url), 'utf8');
  const rows = Object.entries(recorded).filter(([name, both]) => document.includes(rowOf(name, both)));
  t.ok(rows.length >= 20, `${rows.length} rows`);
  const named = Object.keys(recorded).filter((name) => document.includes(`\n| ${name} |`));
  t.strictSame(
    named,
    rows.map(([name]) => name),
    'rows as recorded',
  );
  for (const name of REFUSED_HERE_ONLY) t.ok(named.includes(name), name);
});
