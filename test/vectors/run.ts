// Runs every vector of every JSON file in a folder: `node test/vectors/run.ts DIR`. Exit 1 on a failure.
import { relative } from 'node:path';
import { readVectorFile, runVector, vectorFiles } from './runner.ts';

const folder = process.argv[2];
if (folder === undefined || process.argv.length > 3) {
  console.error('usage: node test/vectors/run.ts DIR');
  process.exit(2);
}

const counts = { passed: 0, failed: 0, skipped: 0 };
const skipped = new Map<string, { vectors: number; reason: string }>();
const notTested = new Map<string, number>();
const files = await vectorFiles(folder);
if (files.length === 0) {
  console.error(`${folder}: no JSON files`);
  process.exitCode = 1;
}
for (const file of files) {
  const name = relative(folder, file);
  try {
    for (const vector of readVectorFile(file).vectors) {
      const { outcome, reason, notTested: left } = await runVector(vector);
      for (const [backend, count] of Object.entries(left))
        notTested.set(backend, (notTested.get(backend) ?? 0) + count);
      counts[outcome]++;
      if (outcome === 'failed') {
        console.log(`FAILED ${name} ${vector.id} (${vector.kind}): ${vector.title} [${vector.rules.join(', ')}]`);
        console.log(reason.replace(/^/gm, '    '));
      } else if (outcome === 'skipped') {
        skipped.set(vector.kind, { vectors: (skipped.get(vector.kind)?.vectors ?? 0) + 1, reason });
      }
    }
  } catch (error) {
    counts.failed++;
    console.log(`FAILED ${name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
for (const [kind, { vectors, reason }] of skipped) console.log(`skipped ${kind} (${vectors}): ${reason}`);
for (const [backend, count] of notTested) {
  console.log(`not tested by design: ${count} expectations about ${backend} mode, which does not exist yet`);
}
if (counts.failed > 0) process.exitCode = 1;
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
