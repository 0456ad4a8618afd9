// What is kept of a cluster when something went wrong.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Texts by file name. */
export type Source = () => Promise<Iterable<readonly [name: string, text: string]>>;

/** Writes what each source has into a folder; one that fails keeps no other from it. Never throws. */
export async function collectInto(folder: string, sources: readonly Source[]): Promise<void> {
  for (const source of sources) {
    try {
      mkdirSync(folder, { recursive: true });
      for (const [name, text] of await source()) writeFileSync(join(folder, name), text);
    } catch (error) {
      process.stderr.write(`cannot collect everything into ${folder}: ${(error as Error).message}\n`);
    }
  }
}
