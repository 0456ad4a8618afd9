#!/usr/bin/env node
// `kubeplumb`, the agent: command line and configuration in, exit code out.
import { readFileSync, writeFileSync } from 'node:fs';
import { type Backend, NO_EVENTS } from '../backends/backend.ts';
import { createBackend } from './backend.ts';
import { documentText } from './config/document-text.ts';
import { loadConfig } from './config/load.ts';
import { type Config, ConfigError, PROXY_MODES } from './config/types.ts';
import { initOnly } from './init-only.ts';
import { type AdjustableLog, createLog, defaultFormat, describeError, type Log } from './log.ts';
import { run } from './run.ts';
import { VERSION } from './version.ts';

async function main(argv: readonly string[]): Promise<number> {
  const loaded = loadConfig({ argv, readFile: (path) => readFileSync(path, 'utf8'), env: process.env });
  if (loaded.action === 'help') {
    process.stdout.write(loaded.text);
    return 0;
  }
  if (loaded.action === 'version') {
    process.stdout.write(
      `${loaded.raw ? JSON.stringify({ gitVersion: VERSION, platform: `linux/${process.arch}` }) : `kubeplumb ${VERSION}`}\n`,
    );
    return 0;
  }
  const { config, warnings } = loaded;
  const { format, formatChosen, verbosity } = config.logging;
  const terminal = process.stderr.isTTY ?? false;
  const log = createLog({ format: formatChosen ? format : defaultFormat(process.env, terminal), verbosity });
  for (const warning of warnings) log.warn(warning);
  if (config.writeConfigTo !== null) {
    writeFileSync(config.writeConfigTo, documentText(config.document));
    log.info('wrote the effective configuration', { file: config.writeConfigTo });
    return 0;
  }
  if (config.cleanup) return cleanup(config, log);
  return normalRun(config, log);
}

/** All modes, whatever fails (P-4). */
async function cleanup(config: Config, log: Log): Promise<number> {
  const removed: string[] = [];
  let code = 0;
  for (const mode of PROXY_MODES) {
    let backend: Backend | null = null;
    try {
      backend = createBackend(mode, NO_EVENTS, config);
      removed.push(...(await backend.cleanup()));
    } catch (err) {
      log.error('cannot clean up', { mode, err });
      code = 1;
    } finally {
      await backend?.close();
    }
  }
  log.info('cleaned up', { removed });
  return code;
}

async function normalRun(config: Config, log: AdjustableLog): Promise<number> {
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort());
  process.on('unhandledRejection', (err) => {
    log.error('unhandled rejection', { err });
    process.exit(1);
  });
  log.info('kubeplumb starts', { version: VERSION, mode: config.mode });
  await (config.initOnly ? initOnly : run)({ config, log, stop: stop.signal });
  return 0;
}

// The kernel tells others by this name who changed the rules.
process.title = 'kubeplumb';

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => {
    const lines = error instanceof ConfigError ? error.problems : [describeError(error)];
    for (const line of lines) process.stderr.write(`kubeplumb: ${line}\n`);
    process.exit(1);
  },
);
