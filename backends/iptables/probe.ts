// Can this kernel hold the rules, written this way? Tried in one transaction that creates a chain in each table with a
// rule of every kind, and deletes it again.
import type { Family } from '../../native/ip.ts';
import type { NftConnection } from '../../native/nftables/connection.ts';
import { compatProtocol, encodeRule } from './encode.ts';
import { type Match, type Rule, TABLES, type Table, type Target } from './rule.ts';

const CHAIN = 'KUBE-PLUMB-PROBE';
const ATTEMPTS = 20;

const rule = (target: Target | null, ...matches: Match[]): Rule => ({ protocol: 'tcp', matches, target });

function probeRules(family: Family): Record<Table, readonly Rule[]> {
  const [cidr, ip] = family === 'IPv4' ? ['192.0.2.0/25', '192.0.2.1'] : ['2001:db8::/33', '2001:db8::1'];
  const port: Match = { match: 'port', port: 80 };
  return {
    mangle: [],
    filter: [
      rule({ target: 'REJECT' }, { match: 'comment', text: CHAIN }, { match: 'addrtype', side: 'dst' }),
      rule({ target: 'DROP' }, { match: 'conntrack', states: ['INVALID'], not: false }),
      rule({ target: 'ACCEPT' }, { match: 'mark', value: 1, mask: 1, not: false }),
    ],
    nat: [
      {
        ...rule({ target: 'MARK', value: 1, mask: 1 }),
        source: { cidr, not: false },
        destination: { cidr, not: true },
      },
      { ...rule({ target: 'MASQUERADE', randomFully: true }), input: { name: 'probe', prefix: true, not: false } },
      rule({ target: 'RETURN' }, port, { match: 'statistic', threshold: 2 ** 30 }),
      { ...rule({ target: 'RETURN' }, port), protocol: 'udp' },
      { ...rule({ target: 'RETURN' }, port), protocol: 'sctp' },
      rule({ target: 'RETURN' }, { match: 'recent', list: CHAIN, op: 'check', seconds: 1 }),
      rule({ target: 'DNAT', ip, port: 80 }, { match: 'recent', list: CHAIN, op: 'set', seconds: 0 }),
      rule(null, { match: 'comment', text: CHAIN }),
    ],
  };
}

/** Why the rules of a family cannot be written to this kernel over netlink, or null. Leaves nothing behind. */
export async function probeFamily(nft: NftConnection, family: Family): Promise<string | null> {
  for (let attempt = 1; ; attempt++) {
    // A table that others create meanwhile must not be deleted.
    const generation = nft.generation();
    const existing = nft.tables().filter((table) => table.family === family);
    const missing = TABLES.filter((table) => !existing.some(({ name }) => name === table));
    const batch = nft.batch('', generation);
    const kinds: string[] = [];
    const note = (text: string): void => {
      while (kinds.length < batch.subjects.length) kinds.push(text);
    };
    for (const table of TABLES) {
      batch.useTable(table);
      if (missing.includes(table)) batch.addTable(family);
      batch.addChain(family, CHAIN);
      note(`table ${table}`);
      for (const rule of probeRules(family)[table]) {
        const expressions = encodeRule(family, rule);
        batch.addRule(family, CHAIN, expressions, { compatProtocol: compatProtocol(rule) });
        note(expressions.flatMap((e) => ('extension' in e ? [`${e.name} ${e.extension}`] : [])).join(', '));
      }
      batch.flushChain(family, CHAIN);
      batch.deleteChain(family, CHAIN);
      if (missing.includes(table)) batch.deleteTable(family, table);
      note(`table ${table}`);
    }
    const result = await nft.commit(batch);
    if (result.outcome === 'committed') return null;
    if (result.outcome === 'unknown') return 'no reply from the kernel';
    if (result.refusals.some(({ code }) => code === 'ERESTART') && attempt < ATTEMPTS) continue;
    const reasons = result.refusals.map(({ index, code, message }) =>
      index === null ? message : `${kinds[index]}: ${code}`,
    );
    return `${family}: ${reasons.join('; ')}`;
  }
}
