// Runs bench/in-process.ts in a network namespace of its own.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { createNamespaces, namespaceName, removeNamespaces } from '../test/support/namespaces.ts';

const script = fileURLToPath(new URL('in-process.ts', import.meta.url));
createNamespaces(['bench']);
const argv = ['netns', 'exec', namespaceName('bench'), process.execPath, script, ...process.argv.slice(2)];
const { status } = spawnSync('ip', argv, { stdio: 'inherit' });
removeNamespaces(['bench']);
process.exit(status ?? 1);
