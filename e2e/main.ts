// `npm run e2e`: gets a cluster, runs the checks in each mode, prints TAP and a table, and leaves nothing behind.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CHECKS } from './checks/list.ts';
import type { Cluster } from './cluster/cluster.ts';
import { ExistingProvider } from './cluster/existing.ts';
import { KindProvider } from './cluster/kind.ts';
import type { Provider } from './cluster/provider.ts';
import { endPrograms } from './cluster/run-program.ts';
import { HELP, type Options, OptionsError, parseOptions } from './options.ts';
import { type CheckResult, resultsText, runChecks } from './run-checks.ts';

const say = (text: string): boolean => process.stderr.write(`e2e: ${text}\n`);

async function providerFor(options: Options, folder: string): Promise<Provider> {
  if (options.provider === 'kind') return new KindProvider(options, folder);
  if (options.provider === 'existing') return new ExistingProvider(options);
  // Only this one needs the native parts of the project.
  return new (await import('./cluster/namespaces/provider.ts')).NamespacesProvider(options);
}

/** What is open and must be closed, however the run ends. */
class Cleanup {
  cluster: Cluster | null = null;
  readonly #provider: Provider;
  #closing: Promise<void> | null = null;

  constructor(provider: Provider) {
    this.#provider = provider;
  }

  async closeCluster(): Promise<void> {
    const { cluster } = this;
    this.cluster = null;
    await cluster?.close().catch((error: Error) => say(`cannot clean up: ${error.message}`));
  }

  close(): Promise<void> {
    return (this.#closing ??= (async () => {
      await this.closeCluster();
      await this.#provider.close().catch((error: Error) => say(`cannot clean up: ${error.message}`));
    })());
  }
}

/** @returns whether all checks passed or were skipped */
async function run(options: Options, provider: Provider): Promise<boolean> {
  const { default: t } = await import('tap');
  t.setTimeout(0);
  const cleanup = new Cleanup(provider);
  let stopped = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    // Not `once`: tap ends the process when its own handler is the only one.
    process.on(signal, () => {
      say(`${signal}: cleaning up`);
      // Once: what is to end is not what cleans up.
      if (!stopped) endPrograms();
      stopped = true;
      cleanup.close().finally(() => process.exit(1));
    });
  }
  const tables: string[] = [];
  const all: CheckResult[] = [];
  try {
    for (const mode of provider.runs) {
      if (stopped) break;
      const name = mode === null ? 'the checks' : `the checks, mode ${mode}`;
      await t.test(name, { timeout: 0 }, async (t) => {
        const artifacts = join(options.artifacts, mode ?? 'as-it-is');
        say(`${name}: getting the cluster ready`);
        const cluster = await provider.open(mode).catch(async (error) => {
          if (!stopped) await provider.collect(artifacts);
          throw error;
        });
        cleanup.cluster = cluster;
        try {
          const results = await runChecks(t, { cluster, only: options.only, artifacts });
          all.push(...results);
          tables.push(`\n${name}, ${cluster.name}\n${resultsText(results)}`);
        } catch (error) {
          // Pods that do not come up, most often.
          if (!stopped) await cluster.collect(artifacts);
          throw error;
        } finally {
          await cleanup.closeCluster();
        }
      });
    }
  } finally {
    await cleanup.close();
  }
  const count = (wanted: CheckResult['result']): number => all.filter(({ result }) => result === wanted).length;
  process.stderr.write(`${tables.join('\n')}\n`);
  say(`${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped`);
  return t.passing();
}

async function main(argv: readonly string[]): Promise<number> {
  const options = parseOptions(argv, process.env);
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (options.list) {
    process.stdout.write(
      CHECKS.map(({ name, needs = [] }) => `${name}${needs.length > 0 ? ` [${needs.join(', ')}]` : ''}\n`).join(''),
    );
    return 0;
  }
  const folder = mkdtempSync(join(tmpdir(), 'kubeplumb-e2e-'));
  process.once('exit', () => {
    endPrograms();
    rmSync(folder, { recursive: true, force: true });
  });
  const provider = await providerFor(options, folder);
  const missing = await provider.missing();
  if (options.dryRun) for (const line of provider.plan()) say(`would: ${line}`);
  for (const line of missing) say(`missing: ${line}`);
  if (missing.length > 0) {
    if (options.provider === 'kind')
      say('without containers: E2E_KUBECONFIG=… npm run e2e, or npm run e2e -- --cluster namespaces');
    return 2;
  }
  if (options.dryRun) {
    say('nothing is missing');
    return 0;
  }
  return (await run(options, provider)) ? 0 : 1;
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: Error) => {
    say(error instanceof OptionsError ? `${error.message} (--help tells more)` : (error.stack ?? error.message));
    process.exitCode = error instanceof OptionsError ? 2 : 1;
  },
);
