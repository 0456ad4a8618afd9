// `npm run demo`: sets up what the demo needs, then runs examples/demo/main.ts in the project's own Node.
// Exit codes: 0 all as expected, 1 something was not or could not be installed, 2 this machine cannot run it.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';
import { ensurePackages, ensurePrograms, NODE, PROGRAMS, ROOT, SEARCH_PATH } from './setup.mjs';

const MAIN = join(ROOT, 'examples/demo/main.ts');
const NEEDED = ['ip', 'nft', 'unshare', 'setpriv'];
/** Beside those that setup knows. */
const PACKAGES = { ...PROGRAMS, setpriv: 'util-linux' };

function cannot(text) {
  process.stderr.write(`demo: ${text}\n`);
  return 2;
}

/** Runs the demo to its end, also when this process is told to stop: it cleans up first. */
function run() {
  const child = spawn(NODE, [MAIN, ...process.argv.slice(2)], {
    cwd: ROOT,
    stdio: 'inherit',
    env: { ...process.env, PATH: SEARCH_PATH },
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  return new Promise((done, failed) => {
    child.on('error', failed);
    child.on('exit', (code, signal) => done(code ?? 128 + constants.signals[signal]));
  });
}

async function main() {
  if (process.platform !== 'linux') return cannot(`it needs Linux, this is ${process.platform}`);
  ensurePackages();
  const missing = ensurePrograms(Object.fromEntries(NEEDED.map((name) => [name, PACKAGES[name]])));
  if (missing.length === 0) return run();
  const packages = [...new Set(missing.map((name) => PACKAGES[name]))].join(' ');
  return cannot(
    `it needs ${missing.join(' and ')}. Install the packages (Debian, Ubuntu: apt-get install ${packages}) and run it again.`,
  );
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`demo: ${error.message}\n`);
  process.exitCode = 1;
}
