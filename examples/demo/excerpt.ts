// Parts of long texts that the demo shows. Pure.

/** The named blocks of a table as nft lists it, such as `map services`, in the order of the listing, indented less. */
export function blocks(listing: string, names: readonly string[]): string {
  const kept: string[] = [];
  let inside = false;
  for (const line of listing.split('\n')) {
    if (names.some((name) => line === `\t${name} {`)) inside = true;
    if (inside) kept.push(line);
    if (line === '\t}') inside = false;
  }
  // Elements after the first are aligned with it, by tabs of eight columns.
  return kept
    .map((line) => `${line.slice(1).replace('\t\t     ', ' '.repeat(17)).replaceAll('\t', '    ')}\n`)
    .join('');
}

/** What agentctl explains of a Service, without the rules that follow. */
export function explanation(dump: string): string {
  const end = dump.indexOf('\nRules\n');
  return end === -1 ? dump : dump.slice(0, end);
}

/** Lines that differ between two texts of as many lines: once each, however often, with `-` and `+`. */
export function changedLines(before: string, after: string): string[] {
  const now = after.split('\n');
  const changes = before
    .split('\n')
    .flatMap((line, i) => (line === now[i] ? [] : [`- ${line.trim()}\n+ ${now[i]?.trim()}`]));
  return [...new Set(changes)].flatMap((change) => change.split('\n'));
}

/** Indented, for output of other programs. */
export const indented = (text: string): string => text.trimEnd().replace(/^(?=.)/gm, '  ');
