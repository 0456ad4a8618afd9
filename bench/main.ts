// npm run bench -- [--scale 10000x5]… [--mode nftables] [--json FILE] [--command 'kube-proxy --config {config}'] [--no-agent]
//                  [--launcher 'taskset -c 1']
//
// For each scale (Services x endpoints of each): the agent's own work in this process (cold sync from memory, one
// endpoint change from event to kernel acknowledgement, restart with nothing changed), and the whole agent as a process
// on objects from an API server. --command measures another proxy on the same objects, for a table side by side.
// --launcher starts each program that is measured. Everything happens in private network namespaces.
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { namespacesMissing } from '../test/support/namespaces.ts';
import { scaled } from '../test/support/time-scale.ts';
import { printTable, type Run } from './report.ts';
import { measureProcess } from './run-process.ts';

const { values } = parseArgs({
  options: {
    scale: { type: 'string', multiple: true, default: ['1000x5', '10000x5'] },
    mode: { type: 'string', default: 'nftables' },
    json: { type: 'string' },
    command: { type: 'string' },
    launcher: { type: 'string', default: '' },
    'no-agent': { type: 'boolean', default: false },
  },
});
const MODES = ['nftables', 'iptables', 'ipvs'];
/** Changes measured; in iptables mode the kernel checks all rules for each. */
const CHANGES: Readonly<Record<string, number>> = { nftables: 300, iptables: 30, ipvs: 100 };
const fail = (message: string): never => {
  process.stderr.write(`bench: ${message}\n`);
  process.exit(2);
};
if (!MODES.includes(values.mode)) fail(`--mode ${values.mode}: must be ${MODES.join(', ')}`);
const scales = values.scale.map((text) => {
  const m = /^(\d+)x(\d+)$/.exec(text) ?? fail(`--scale ${text}: expected SERVICESxENDPOINTS, such as 10000x5`);
  return { services: Number(m[1]), endpointsPerService: Number(m[2]) };
});
const missing = await namespacesMissing();
if (missing !== null) fail(missing);

const root = fileURLToPath(new URL('..', import.meta.url));
const words = (text: string): string[] => text.split(/\s+/).filter(Boolean);
const launcher = words(values.launcher);
const run = (argv: string[]): Promise<string> =>
  new Promise((resolve, reject) => {
    const [program = '', ...args] = argv;
    const child = spawn(program, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    child.stdout.on('data', (chunk) => {
      out += chunk;
    });
    child.on('error', reject);
    child.on('exit', (code) => (code === 0 ? resolve(out) : reject(new Error(`${argv.join(' ')} ended with ${code}`))));
  });

interface InProcess {
  readonly coldSyncMs: number;
  readonly warmRestartObjects: number;
  readonly changeP50Ms: number;
  readonly changeP99Ms: number;
  readonly elementsPerChange: number;
  readonly longestStallMs: number;
}

/** What a command runs, behind `env` and its settings. */
const programOf = (command: readonly string[]): string =>
  command
    .find((word) => word !== 'env' && !word.includes('='))
    ?.split('/')
    .at(-1) ?? 'other';

await run([process.execPath, 'scripts/build.mjs']);
const runs: Run[] = [];
for (const scale of scales) {
  const name = `${scale.services}x${scale.endpointsPerService}`;
  const say = (who: string) => (text: string) => process.stderr.write(`${name} ${who}: ${text}\n`);
  if (!values['no-agent']) {
    say('kubeplumb')('in memory');
    const argv = [values.mode, scale.services, scale.endpointsPerService, CHANGES[values.mode]!].map(String);
    const inner = JSON.parse(await run([...launcher, process.execPath, 'bench/in-namespace.ts', ...argv])) as InProcess;
    const command = [...launcher, process.execPath, `${root}/dist/kubeplumb.js`, '--config', '{config}'];
    const outer = await measureProcess({
      ...scale,
      mode: values.mode,
      command,
      changes: values.mode === 'nftables' ? 40 : 8,
      startLimitMs: scaled(120_000),
      say: say('kubeplumb'),
    });
    runs.push({
      program: 'kubeplumb',
      mode: values.mode,
      ...scale,
      ...outer,
      ...inner,
      warmRestartObjects: outer.warmRestartObjects,
    });
  }
  if (values.command) {
    const command = words(values.command);
    const say2 = say(programOf(command));
    const outer = await measureProcess({
      ...scale,
      mode: values.mode,
      command: [...launcher, ...command],
      changes: 8,
      startLimitMs: 1_200_000,
      say: say2,
    });
    runs.push({
      program: programOf(command),
      mode: values.mode,
      ...scale,
      ...outer,
      coldSyncMs: outer.firstSyncMs,
      changeP50Ms: outer.laterSyncMs,
      changeP99Ms: null,
      elementsPerChange: null,
    });
  }
}
const machine = `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, Node ${process.versions.node}`;
printTable(machine, runs);
if (values.json) writeFileSync(values.json, `${JSON.stringify({ machine, runs }, null, 1)}\n`);
process.exit(0);
