// Structs of matches and targets: the bytes that iptables-nft 1.8.9 writes, values back from them, and nothing else
// taken for a value.
import t from 'tap';
import type { Layout } from '../../../native/xtables/layout.ts';
import * as matches from '../../../native/xtables/matches.ts';
import * as targets from '../../../native/xtables/targets.ts';

interface Row<T = never> {
  readonly name: string;
  readonly layout: Layout<T>;
  readonly value: T;
  /** Hexadecimal; what follows is zero up to the size. */
  readonly bytes: string;
  readonly size: number;
}
const row = <T>(name: string, layout: Layout<T>, value: NoInfer<T>, size: number, bytes: string): Row =>
  ({ name, layout, value, bytes, size }) as unknown as Row;

const hexText = (text: string): string => Buffer.from(text).toString('hex');
const ff = 'ff'.repeat(16);

const ROWS: readonly Row[] = [
  row('comment', matches.comment, 'shop/web cluster IP', 256, hexText('shop/web cluster IP')),
  row('longest comment', matches.comment, 'x'.repeat(255), 256, hexText('x'.repeat(255))),
  row('tcp --dport 8080', matches.tcp, 8080, 16, '0000ffff' + '901f901f'),
  row('tcp', matches.tcp, null, 16, '0000ffff' + '0000ffff'),
  row('udp --dport 53', matches.udp, 53, 16, '0000ffff' + '35003500'),
  row('udp', matches.udp, null, 16, '0000ffff' + '0000ffff'),
  row('sctp --dport 8080', matches.sctp, 8080, 296, `901f901f${'00'.repeat(264)}${'ff0000'.repeat(4)}0000000002000000`),
  row('sctp', matches.sctp, null, 296, `${'00'.repeat(268)}${'ff0000'.repeat(4)}`),
  row('statistic 1/3', matches.statistic, 0x2aaaaaab, 24, '00000000abaaaa2a00000000abaaaa2a'),
  row(
    'recent --rcheck --seconds 10800 --reap',
    matches.recent,
    { list: 'KUBE-SEP-X', op: 'check', seconds: 10800 },
    232,
    `302a0000000000002100${hexText('KUBE-SEP-X')}${'00'.repeat(192)}${ff}`,
  ),
  row(
    'recent --set',
    matches.recent,
    { list: 'KUBE-SEP-X', op: 'set', seconds: 0 },
    232,
    `00000000000000000200${hexText('KUBE-SEP-X')}${'00'.repeat(192)}${ff}`,
  ),
  row('addrtype --src-type LOCAL', matches.addrtype, 'src', 8, '0400'),
  row('addrtype --dst-type LOCAL', matches.addrtype, 'dst', 8, '00000400'),
  row(
    '! --ctstate RELATED,ESTABLISHED,DNAT',
    matches.conntrack,
    { states: ['RELATED', 'ESTABLISHED', 'DNAT'], not: true },
    168,
    `${'00'.repeat(146)}010001008600`,
  ),
  row(
    '--ctstate INVALID,NEW',
    matches.conntrack,
    { states: ['INVALID', 'NEW'], not: false },
    168,
    `${'00'.repeat(146)}010000000900`,
  ),
  row('! --mark 0x4000/0x4000', matches.mark, { value: 0x4000, mask: 0x4000, not: true }, 16, '004000000040000001'),
  row('nfacct', matches.nfacct, 'ct_state_invalid_dropped_pkts', 40, hexText('ct_state_invalid_dropped_pkts')),
  row('--xor-mark 0x4000', targets.setMark, { value: 0x4000, mask: 0 }, 8, '00400000'),
  row('MASQUERADE IPv4', targets.masquerade.IPv4, false, 24, '01000000'),
  row('MASQUERADE --random-fully IPv4', targets.masquerade.IPv4, true, 24, '0100000010000000'),
  row('MASQUERADE --random-fully IPv6', targets.masquerade.IPv6, true, 40, '10000000'),
  row('REJECT IPv4', targets.reject.IPv4, true, 8, '03000000'),
  row('REJECT IPv6', targets.reject.IPv6, true, 8, '04000000'),
  row(
    'DNAT IPv4',
    targets.dnat.IPv4,
    { ip: '10.244.1.10', port: 8080 },
    48,
    `030000000af4010a${'00'.repeat(12)}0af4010a${'00'.repeat(12)}1f901f90`,
  ),
  row(
    'DNAT IPv6',
    targets.dnat.IPv6,
    { ip: 'fd00::a', port: 443 },
    48,
    `03000000fd00${'00'.repeat(13)}0afd00${'00'.repeat(13)}0a01bb01bb`,
  ),
];

/** Bytes whose value does not matter: of the statistic's other mode, of a pointer in the kernel. */
const IGNORED: Readonly<Record<string, readonly [number, number]>> = { statistic: [8, 24], nfacct: [32, 40] };

t.test('bytes', async (t) => {
  for (const { name, layout, value, bytes, size } of ROWS) {
    const written = layout.write(value);
    t.equal(Buffer.from(written, 'latin1').toString('hex'), bytes.padEnd(size * 2, '0'), name);
    t.equal(layout.size, size, name);
    t.strictSame(layout.read(written), value, name);
  }
});

t.test('every other byte counts', async (t) => {
  for (const { name, layout, value, size } of ROWS) {
    const bytes = layout.write(value);
    const [from, to] = IGNORED[layout.name] ?? [size, size];
    let unnoticed = 0;
    for (let at = 0; at < size; at++) {
      for (const bit of [1, 0x80]) {
        const changed = bytes.slice(0, at) + String.fromCharCode(bytes.charCodeAt(at) ^ bit) + bytes.slice(at + 1);
        const read = layout.read(changed);
        const same = read !== null && layout.write(read) === bytes;
        if (same !== (at >= from && at < to)) unnoticed++;
      }
    }
    t.equal(unnoticed, 0, name);
    t.equal(layout.read(bytes.slice(1)), null, `${name}: too short`);
    t.equal(layout.read(`${bytes}\0`), null, `${name}: too long`);
  }
});

t.test('what does not fit', async (t) => {
  t.throws(() => matches.comment.write('x'.repeat(256)), { name: 'RangeError', message: /comment of 256 bytes/ });
  t.throws(() => matches.comment.write('é'.repeat(128)), { name: 'RangeError' });
  t.throws(() => matches.recent.write({ list: 'x'.repeat(200), op: 'set', seconds: 0 }), { name: 'RangeError' });
  t.throws(() => matches.nfacct.write('x'.repeat(32)), { name: 'RangeError' });
  t.throws(() => targets.dnat.IPv4.write({ ip: 'fd00::1', port: 1 }), { name: 'RangeError' });
  t.throws(() => targets.dnat.IPv6.write({ ip: '10.0.0.1', port: 1 }), { name: 'RangeError' });
  t.throws(() => targets.dnat.IPv4.write({ ip: 'nonsense', port: 1 }), { name: 'RangeError' });
});

t.test('recent: a mask of IPv4 as iptables writes it', async (t) => {
  const wanted = { list: 'KUBE-SEP-X', op: 'set', seconds: 0 } as const;
  const info = matches.recent.write(wanted);
  const written = (bytes: number): string =>
    info.slice(0, 212) + '\xff'.repeat(bytes) + '\0'.repeat(16 - bytes) + info.slice(228);
  t.equal(matches.recent.read(written(4)), null);
  t.same(matches.recent.read(matches.fillIPv4RecentMask(written(4))), wanted);
  t.equal(matches.recent.read(matches.fillIPv4RecentMask(written(3))), null, 'another mask');
  t.equal(matches.fillIPv4RecentMask(info), info);
});
