// Names a person may have meant.

const MOST = 3;

/** Services (`namespace/name`) like the one that was asked for, the likeliest first. */
export function similarServices(asked: string, services: Iterable<string>): string[] {
  const name = asked.slice(asked.indexOf('/') + 1);
  const limit = Math.max(2, Math.floor(asked.length / 5));
  const found: { service: string; distance: number }[] = [];
  for (const service of services) {
    const distance = service.endsWith(`/${name}`) ? 1 : editDistance(asked, service, limit);
    if (distance <= limit) found.push({ service, distance });
  }
  found.sort((a, b) => a.distance - b.distance || (a.service < b.service ? -1 : 1));
  return found.slice(0, MOST).map(({ service }) => service);
}

/** Insertions, deletions and replacements between two texts; more than `limit` when there are more. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    if (Math.min(...next) > limit) return limit + 1;
    row = next;
  }
  return row[b.length]!;
}
