// Texts that tests compare with files in test/golden; UPDATE_GOLDEN=1 writes the files instead.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

interface Comparer {
  equal(found: unknown, wanted: unknown, ...extra: [message: string]): boolean;
}

/** `name` is the path below test/golden. */
export function golden(t: Comparer, name: string, text: string): void {
  const path = fileURLToPath(new URL(`../golden/${name}`, import.meta.url));
  if (process.env.UPDATE_GOLDEN === '1') {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  t.equal(text, readFileSync(path, 'utf8'), `like test/golden/${name}`);
}
