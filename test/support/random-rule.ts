// Rules put together at random, with everything the model knows.
import type { Match, Rule, Target } from '../../backends/iptables/rule.ts';
import { type Family, ipText } from '../../native/ip.ts';
import type { Random } from './plans.ts';

/** A rule of any kind put together at random, with all parts that a family has. */
export function randomRule(random: Random, family: Family): Rule {
  const one = <T>(...list: readonly T[]): T => list[random(list.length)]!;
  const some = <T>(value: () => T): T | undefined => (random(2) === 0 ? value() : undefined);
  const bits = family === 'IPv4' ? 32 : 128;
  const cidr = (): string => {
    const prefix = one(bits, bits, 1 + random(bits));
    const bytes = Array.from(
      { length: bits / 8 },
      (_, i) => random(256) & ((0xff00 >> Math.min(8, Math.max(0, prefix - i * 8))) & 255),
    );
    return `${ipText(String.fromCharCode(...bytes))}/${prefix}`;
  };
  const address = (): { cidr: string; not: boolean } => ({ cidr: cidr(), not: random(2) === 0 });
  const protocol = some(() => one('tcp', 'udp', 'sctp'));
  const u32 = (): number => (random(2 ** 16) * 2 ** 16 + random(2 ** 16)) >>> 0;
  const text = (most: number): string =>
    Array.from({ length: 1 + random(most) }, () => one('a', 'Z', '-', '/', ':', ' ', 'é')).join('');
  const states = ['INVALID', 'NEW', 'RELATED', 'ESTABLISHED', 'DNAT'] as const;
  const match = (): Match =>
    one<() => Match>(
      () => ({ match: 'comment', text: text(120) }),
      () => (protocol ? { match: 'port', port: one(null, random(65536)) } : { match: 'comment', text: 'no protocol' }),
      () => ({ match: 'addrtype', side: one('src', 'dst') }),
      () => ({ match: 'conntrack', states: states.filter((_, i) => i === 0 || random(2) === 0), not: random(2) === 0 }),
      () => ({ match: 'mark', value: u32(), mask: u32(), not: random(2) === 0 }),
      () => ({ match: 'nfacct', name: text(10) }),
      () => ({
        match: 'recent',
        list: text(90),
        ...one({ op: 'set' as const, seconds: 0 }, { op: 'check' as const, seconds: u32() }),
      }),
      () => ({ match: 'statistic', threshold: random(2 ** 31) }),
    )();
  const target = (): Target =>
    one<() => Target>(
      () => ({ target: 'jump', chain: `KUBE-SVC-${random(1000)}` }),
      () => ({ target: one('DROP', 'ACCEPT', 'RETURN') }),
      () => ({ target: 'MARK', value: u32(), mask: u32() }),
      () => ({ target: 'MASQUERADE', randomFully: random(2) === 0 }),
      () => ({ target: 'REJECT' }),
      () => ({ target: 'DNAT', ip: cidr().split('/')[0]!, port: random(65536) }),
    )();
  const source = some(address);
  const destination = some(address);
  const input = some(() => ({ name: `eth${random(100)}`, prefix: random(2) === 0, not: random(2) === 0 }));
  return {
    ...(source && { source }),
    ...(destination && { destination }),
    ...(input && { input }),
    ...(protocol && { protocol }),
    matches: Array.from({ length: random(5) }, match),
    target: some(target) ?? null,
  };
}
