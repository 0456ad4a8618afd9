// All recorded vectors, one subtest per file.

import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { readVectorFile, runVector, vectorFiles } from './runner.ts';

for (const file of await vectorFiles(fileURLToPath(new URL('data', import.meta.url)))) {
  t.test(basename(file), async (t) => {
    for (const vector of readVectorFile(file).vectors) {
      const { outcome, reason } = await runVector(vector);
      const name = `${vector.id} ${vector.title}`;
      if (outcome === 'skipped') t.pass(name, { skip: reason });
      else t.equal(reason, '', name);
    }
  });
}

t.test('a vector of an unknown kind fails', async (t) => {
  const vector = { id: 'x', kind: 'no-such-kind', title: '', rules: [], input: {}, expect: {} };
  t.match(await runVector(vector), { outcome: 'failed', reason: 'unknown kind no-such-kind' });
});
