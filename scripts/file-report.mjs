// What a run of tests says about one file: a line of counts, the reasons of skips, and of a failed file what it printed.

/** Lines shown of a failed file. */
const MAX_LINES = 60;

/** Number of skipped tests of a FileResult. */
export function skippedCount({ skipped }) {
  return [...skipped.values()].reduce((a, b) => a + b, 0);
}

/** Lines about a FileResult; `again` is the command that shows all of it. */
export function fileReport(result, { again = `node_modules/.bin/node ${result.file}` } = {}) {
  const skipped = skippedCount(result);
  const counts = [`${result.passed} passed`];
  if (result.failed > 0) counts.push(`${result.failed} failed`);
  if (skipped > 0) counts.push(`${skipped} skipped`);
  const lines = [`${result.failed > 0 ? 'FAIL' : 'ok  '} ${result.file}: ${counts.join(', ')}`];
  for (const [reason, count] of result.skipped)
    lines.push(`       skipped${count > 1 ? ` ${count} times` : ''}: ${reason}`);
  if (result.problem !== null) lines.push(`       ${result.problem}`);
  if (result.failed > 0) {
    const told = result.lines.filter((text) => !/^ *(ok\b|1\.\.\d|# (Subtest|time)|$)/.test(text));
    for (const line of told.slice(0, MAX_LINES)) lines.push(`  | ${line}`);
    if (told.length > MAX_LINES) lines.push(`  | … all of it: ${again}`);
  }
  return lines;
}
