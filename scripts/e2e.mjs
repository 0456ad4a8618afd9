// `npm run e2e`: sets up the packages, then runs e2e/main.ts in the project's own Node. Exit codes as --help tells.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';
import { ensurePackages, NODE, ROOT, SEARCH_PATH } from './setup.mjs';

const MAIN = join(ROOT, 'e2e/main.ts');

/** Runs the suite to its end, also when this process is told to stop: it cleans up first. */
function run() {
  const child = spawn(NODE, ['--disable-warning=ExperimentalWarning', MAIN, ...process.argv.slice(2)], {
    stdio: 'inherit',
    env: { ...process.env, PATH: SEARCH_PATH },
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  return new Promise((done, failed) => {
    child.on('error', failed);
    child.on('exit', (code, signal) => done(code ?? 128 + constants.signals[signal]));
  });
}

try {
  ensurePackages();
  process.exitCode = await run();
} catch (error) {
  process.stderr.write(`e2e: ${error.message}\n`);
  process.exitCode = 2;
}
