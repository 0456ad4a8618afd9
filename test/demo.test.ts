// The demo as a user runs it, once to its end and once interrupted: what it says, and that it leaves nothing behind.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';

const MAIN = fileURLToPath(new URL('../examples/demo/main.ts', import.meta.url));
const CANNOT_RUN = 2;
const GONE_MS = 5_000;

interface Run {
  readonly child: ChildProcess;
  /** A folder of its own for temporary files. */
  readonly folder: string;
  output: string;
  errors: string;
}

function start(): Run {
  const { NODE_OPTIONS: _, ...env } = process.env;
  const folder = mkdtempSync(join(tmpdir(), 'demo-test-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const child = spawn(process.execPath, [MAIN], {
    env: { ...env, TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill());
  const run: Run = { child, folder, output: '', errors: '' };
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    run.output += text;
  });
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    run.errors += text;
  });
  return run;
}

/** The exit code, once it and all that share its output have ended: the pods do. */
async function ended({ child }: Run): Promise<number> {
  const [code] = await once(child, 'close');
  return code as number;
}

/** What is left of a run: files, namespaces, and processes that know its folder, such as the agent. */
function leftovers({ child, folder }: Run): string[] {
  const namespaces = existsSync('/run/netns') ? readdirSync('/run/netns') : [];
  const processes = readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(folder);
    } catch {
      return false; // it has just ended
    }
  });
  return [
    ...readdirSync(folder),
    ...namespaces.filter((name) => name.startsWith(`kubeplumb-${child.pid}-`)),
    ...processes.map((pid) => `process ${pid}`),
  ];
}

async function nothingLeft(t: Test, run: Run): Promise<void> {
  // A killed process ends a moment after its parent.
  const deadline = performance.now() + GONE_MS;
  while (leftovers(run).length > 0 && performance.now() < deadline) await new Promise(setImmediate);
  t.same(leftovers(run), [], 'nothing is left behind');
}

const whole = start();
const code = await ended(whole);
const skip = code === CANNOT_RUN ? (whole.errors.split('\n')[0] ?? '') : false;

t.test('to its end', { skip }, async (t) => {
  t.equal(code, 0, whole.errors);
  t.equal(whole.errors, '');
  for (const line of [
    /11 pods/,
    /no rules for shop\/db \(headless\) and shop\/payments \(ExternalName\) \.\.\. right, 6 Services have some/,
    /port 31443 says: 1 local endpoint/,
    /^ {2}ok {2}customer .*LB IP 203\.0\.113\.10:443 .*shop\/checkout +checkout-a 4× +172\.18\.0\.100 \(own\)$/m,
    /^ {2}ok {2}frontend-a .*shop\/search +search-[abc] 5× /m,
    /^ {2}ok {2}dns-a .*10\.96\.0\.10:53 UDP .*dns-a 2× +172\.18\.0\.2 \(node\)$/m,
    /^ {2}\+ conditions: \{ ready: false, serving: true, terminating: true \}$/m,
    /acknowledged the change \d/,
    /^ {2}ok {2}customer .*\[fd00:172:18::2\]:30080 .*frontend-a 8× /m,
    /10\.244\.2\.30:8080 .*terminating, others are ready/,
    /^ {2}map services \{$/m,
    /^ {2}chain np-mq-1 \{$/m,
    /mode nftables, node demo-node .*: healthy/,
    /^Demo finished: 84 of 84 connections as expected/m,
  ])
    t.ok(line.test(whole.output), `${line}`);
  t.notOk(whole.output.includes('WRONG'), 'no row is wrong');
  t.notOk(whole.output.includes('\u001b'), 'no colours in a pipe');
  await nothingLeft(t, whole);
  if (!t.passing()) t.comment(whole.output);
});

t.test('interrupted', { skip }, async (t) => {
  const run = start();
  const agentStarts = new Promise<void>((resolve) => {
    run.child.stdout!.on('data', () => {
      if (run.output.includes('kubeplumb on the node')) resolve();
    });
    run.child.once('close', () => resolve());
  });
  await agentStarts;
  const closed = ended(run);
  // As a terminal does, more than once.
  for (let i = 0; i < 3; i++) run.child.kill('SIGINT');
  t.equal(await closed, 130);
  t.match(run.errors, /interrupted; nothing is left behind/);
  await nothingLeft(t, run);
});
