// One copy of strings and hint lists that thousands of endpoints share (node names, zones). A cache only: dropping it
// costs memory, never correctness, so it is bounded by starting over.
const LIMIT = 65536;
const texts = new Map<string, string>();
const lists = new Map<string, readonly string[]>();

export function internText(text: string): string {
  const known = texts.get(text);
  if (known !== undefined) return known;
  if (texts.size >= LIMIT) texts.clear();
  texts.set(text, text);
  return text;
}

/** The names as a sorted set; equal sets are the same array. */
export function internNames(names: readonly string[]): readonly string[] {
  const set = names.length === 1 ? names : [...new Set(names)].sort();
  const key = JSON.stringify(set);
  const known = lists.get(key);
  if (known !== undefined) return known;
  if (lists.size >= LIMIT) lists.clear();
  lists.set(key, set);
  return set;
}
