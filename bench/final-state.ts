// Compares what an agent, the kernel and a fresh render of the same objects say.

/** Text of the rules without what depends on the order in which things happened, sorted: for comparing nftables rules. */
export function canonicalRules(text: string): string {
  const blocks: string[] = [];
  let path: string[] = [];
  let lines: string[] = [];
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line.endsWith('{') && !line.includes('=')) {
      path = [...path, line.slice(0, -1).trim()];
      lines = [];
    } else if (line === '}') {
      const ordered = path.at(-1)?.startsWith('chain') ? lines : lines.sort();
      blocks.push(`${path.join(' / ')}\n${ordered.map((l) => `  ${l}\n`).join('')}`);
      path = path.slice(0, -1);
      lines = [];
    } else if (line !== '') lines.push(canonicalElement(path.at(-1) ?? '', line));
  }
  return blocks.sort().join('');
}

const CHAIN_OF_SIZE = /^(?:np-)?(?:lb|mq|ll)-(?:sa\d+-)?\d+$/;

/**
 * Canonical rules without the chains, and the words that lead to them, that `fresh` does not have: chains for a number of
 * endpoints stay when no Service has so many any more. Words in use are compared all the same: frontends have them.
 */
export function withoutSpareChains(rules: string, fresh: string): string {
  const blocksOf = (text: string): string[] => text.split(/(?<=\n)(?=\S)/);
  const chain = (block: string): string => /^.* \/ chain (\S+)\n/.exec(block)?.[1] ?? '';
  const known = new Set(blocksOf(fresh).map(chain));
  const spare = (name: string): boolean => CHAIN_OF_SIZE.test(name) && !known.has(name);
  return blocksOf(rules)
    .filter((block) => !spare(chain(block)))
    .map((block) => block.replace(/^ {2}\S+ : goto (\S+)\n/gm, (line, name: string) => (spare(name) ? '' : line)))
    .join('');
}

/** Which endpoint has which index, and which ServicePort which number, means nothing. */
function canonicalElement(block: string, line: string): string {
  const element = line.replace(/^elements = \{ /, '').replace(/( \}|,)$/, '');
  const [, name = ''] = /^(?:map|set) (\S+)/.exec(block) ?? [];
  if (name.includes('affinity'))
    return element.replace(/ \. \d+ : /, ' . # : ').replace(/\b8[0-9a-f]{3}:[0-9a-f]+/g, '#');
  return name.endsWith('endpoints') ? element.replace(/ \. \d+ : /, ' . # : ') : element;
}

/** Chains in which the order of rules decides; elsewhere Services stand in any order. */
const ORDERED = /^-A (KUBE-(?:SVC|SVL|SEP|EXT|FW)-\S+) /;

/**
 * Text of iptables-save without what depends on the order in which things happened, or on the kernel: a render without
 * one counts nothing with nfacct.
 */
export function canonicalSave(text: string): string {
  const blocks = new Map<string, string>();
  let [family, table] = ['', ''];
  for (const raw of text.split('\n')) {
    if (raw.startsWith('#')) family = raw;
    if (raw.startsWith('*')) table = raw;
    if (raw.includes('--nfacct-name') && raw.startsWith('-A KUBE-NODEPORTS')) continue;
    const line = raw.replace(/ -m nfacct --nfacct-name +\S+/, '');
    const key = `${family} ${table} ${ORDERED.exec(line)?.[1] ?? line}`;
    blocks.set(key, `${blocks.get(key) ?? ''}${line}\n`);
  }
  return [...blocks]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, lines]) => lines)
    .join('');
}

/** Lines that only one of two texts has, the first few. */
export function differences(a: string, b: string, limit = 8): string[] {
  const [inA, inB] = [new Set(a.split('\n')), new Set(b.split('\n'))];
  const only = (from: Set<string>, other: Set<string>, sign: string): string[] =>
    [...from].filter((line) => !other.has(line)).map((line) => `${sign}${line}`);
  return [...only(inA, inB, '-'), ...only(inB, inA, '+')].slice(0, limit);
}

/** Endpoints behind the cluster IPs of 10.96.0.0/12 in the kernel's rules. */
export function endpointCount(mode: string, rules: string): number {
  const clusterIp = '10\\.(?:9[6-9]|10\\d|11[01])\\.\\d+\\.\\d+';
  const pattern = {
    nftables: `\\b${clusterIp} \\. tcp \\. \\d+ \\. (?:\\d+|8[0-9a-f]{3}:[0-9a-f]+) : \\d+\\.\\d+\\.\\d+\\.\\d+ \\. \\d+`,
    iptables: '-A KUBE-SEP-\\S+ .*-j DNAT ',
  }[mode];
  if (pattern === undefined) throw new Error(`mode ${mode}: there are nftables and iptables`);
  // A local-only set repeats endpoints of frontends with policy Local, which cluster IPs here do not have.
  return [...rules.matchAll(new RegExp(pattern, 'g'))].length;
}
