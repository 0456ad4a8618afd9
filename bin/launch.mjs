// Starts a bundled program with a Node that can run it: this one, or the one that comes as an optional dependency.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const OLDEST_MAJOR = 24;

/** Node of the package for this platform, or null when npm could not install it. */
function packagedNode() {
  try {
    return createRequire(import.meta.url).resolve(`node-${process.platform}-${process.arch}/bin/node`);
  } catch {
    return null;
  }
}

/** `program`: name of a bundle in dist/. */
export async function launch(program) {
  const bundle = new URL(`../dist/${program}.js`, import.meta.url);
  if (Number(process.versions.node.split('.')[0]) >= OLDEST_MAJOR) {
    await import(bundle.href);
    return;
  }
  const node = packagedNode();
  if (node === null) {
    process.stderr.write(`${program} needs Node.js ${OLDEST_MAJOR} or newer; this is ${process.versions.node}\n`);
    process.exit(1);
  }
  const child = spawn(node, [fileURLToPath(bundle), ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 1);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}
