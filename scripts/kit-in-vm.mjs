// The black-box conformance kit beside this project, run inside a virtual machine:
//   node scripts/kit-in-vm.mjs --mode ipvs [--kernel 6.1] [--cpus 2] [--limit SECONDS] [options of the kit, such as --case GLOB]
// The kit's own last line, `N passed, N failed, N skipped`, is the last here too; the exit code is the kit's.
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensurePackages, NODE, ROOT } from './setup.mjs';
import { bundlePrograms, ensureVmPrograms, fetchKernel, obstacle, runInVm } from './vm.mjs';

const KIT = process.env.KUBEPLUMB_KIT ?? resolve(ROOT, '../shared/conformance/run.mjs');

/** What is written in the machine stays there; dependencies of the agent are found from the project's folder. */
const PUT_AGENT = 'mkdir -p dist && cp -r "$0"/. dist && exec "$@"';

/** Processes of Node that move between emulated CPUs crash; the agent has the second one, if there is one. */
const onCpu = (cpu) => ['taskset', '-c', String(cpu)];

/** How long the kit waits for a result to become right: an emulated machine is slow. */
const SETTLE_MS = 20_000;

/** Splits our options from the kit's; throws when the mode is missing. */
export function parseArguments(args) {
  const options = { mode: '', kernel: '6.1', cpus: '2', limit: '2400', kit: [] };
  for (let i = 0; i < args.length; i++) {
    const name = args[i].replace(/^--/, '');
    if (name !== 'kit' && name in options && args[i] !== name) {
      options[name] = args[++i];
      if (options[name] === undefined) throw new Error(`--${name} needs a value`);
    } else options.kit.push(args[i]);
  }
  if (options.mode === '') throw new Error('--mode is missing: nftables, iptables or ipvs');
  return options;
}

/** The command in the machine, where the bundled agent is in dist/. */
export function kitCommand({ mode, cpus, kit }) {
  const agent = [
    ...onCpu(Number(cpus) > 1 ? 1 : 0),
    NODE,
    join(ROOT, 'dist/kubeplumb.js'),
    '--kubeconfig {kubeconfig}',
    '--hostname-override {node}',
  ];
  return [
    ...onCpu(0),
    NODE,
    KIT,
    ...['--mode', mode],
    ...['--proxy', 'agent'],
    ...['--settle', String(SETTLE_MS)],
    ...['--command', [...agent, '--config {config}'].join(' ')],
    ...kit,
  ];
}

async function main() {
  const options = parseArguments(process.argv.slice(2));
  if (!existsSync(KIT)) throw new Error(`there is no conformance kit at ${KIT}`);
  ensurePackages();
  ensureVmPrograms();
  const reason = obstacle();
  if (reason !== null) throw new Error(reason);
  const { kernel } = options;
  process.stderr.write(`kit: mode ${options.mode} on Linux ${fetchKernel(kernel)}\n`);
  const variables = { NODE_COMPILE_CACHE: '/tmp/kubeplumb-compile-cache' };
  for (const name of ['KUBEPLUMB_IPTABLES_VARIANT'])
    if (process.env[name] !== undefined) variables[name] = process.env[name];
  const folder = mkdtempSync(join(tmpdir(), 'kubeplumb-kit-'));
  try {
    bundlePrograms(folder);
    const { code } = await runInVm(['bash', '-c', PUT_AGENT, folder, ...kitCommand(options)], {
      kernel,
      cpus: Number(options.cpus),
      limit: Number(options.limit),
      variables,
      inherit: true,
    });
    process.exitCode = typeof code === 'number' ? code : 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  main().catch((error) => {
    console.error(`kit: ${error.message}`);
    process.exitCode = 2;
  });
}
