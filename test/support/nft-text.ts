// `nft list table` output in a form that can be compared: whitespace and the order of elements do not count.

/** Lines, without indentation; the elements of a set sorted, one a line. */
export function normalised(text: string): string[] {
  const out: string[] = [];
  let elements: string | null = null;
  for (const raw of text.split('\n')) {
    const line = raw.trim().replaceAll(/\s+/g, ' ');
    if (line === '') continue;
    if (elements === null && !line.startsWith('elements = {')) {
      out.push(line);
      continue;
    }
    elements = elements === null ? line.slice('elements = {'.length) : `${elements} ${line}`;
    if (!line.endsWith('}')) continue;
    const items = elements.slice(0, -1).split(',');
    out.push(...items.map((item) => `element ${item.trim()}`).sort());
    elements = null;
  }
  return out;
}
