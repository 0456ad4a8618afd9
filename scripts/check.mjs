// `npm run check`: types, lint and format, and the direction of imports. Changes nothing; exit code 1 if anything fails.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readModules, violations } from './import-rules.mjs';
import { ensurePackages, NODE, ROOT } from './setup.mjs';

const SOURCES = ['agent', 'backends', 'native'];

function tool(name, ...args) {
  const { status, signal, stdout, stderr } = spawnSync(NODE, [join(ROOT, 'node_modules/.bin', name), ...args], {
    cwd: ROOT,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  return status === 0 ? '' : `${stdout}${stderr}`.trim() || `${name} ended with ${signal ?? status}`;
}

function imports() {
  const files = SOURCES.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true })
      .filter((path) => path.endsWith('.ts'))
      .map((path) => join(ROOT, folder, path)),
  );
  return violations(readModules(ROOT, files)).join('\n');
}

/** Name and what is wrong, '' when all is well. */
const STEPS = [
  ['types (tsc)', () => tool('tsc', '--noEmit', '-p', '.')],
  ['lint and format (biome)', () => tool('biome', 'check', '--diagnostic-level=warn', '--error-on-warnings', '.')],
  ['imports', imports],
];

try {
  ensurePackages();
  for (const [name, step] of STEPS) {
    const problems = step();
    console.log(`${problems === '' ? 'ok  ' : 'FAIL'} ${name}`);
    if (problems === '') continue;
    process.exitCode = 1;
    console.log(problems.replace(/^/gm, '     '));
  }
} catch (error) {
  console.error(`check: ${error.message}`);
  process.exitCode = 1;
}
