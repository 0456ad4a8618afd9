// Addresses that somebody else has bound are adopted; IPv6 ones only as the kernel does not pick them as a source.
import t from 'tap';
import { BoundAddresses } from '../../../backends/ipvs/bound-addresses.ts';
import { ADDRESS_FLAG } from '../../../native/route/message.ts';
import type { RouteWriter } from '../../../native/route/writer.ts';

const address = (ip: string, flags: number) => {
  const six = ip.includes(':');
  return { index: 3, ip, prefix: six ? 128 : 32, family: six ? 'IPv6' : 'IPv4', scope: 'global', flags } as const;
};

t.test('a preferred IPv6 address is bound, but not as it should be', async (t) => {
  const added: string[] = [];
  const route = {
    linkIndex: () => 3,
    addresses: () => [
      address('10.96.0.1', 0),
      address('fd00:96::1', 0),
      address('fd00:96::2', ADDRESS_FLAG.deprecated),
      address('fe80::1', 0),
    ],
    addAddresses: async (_: number, ips: readonly string[]) => {
      added.push(...ips);
      return [];
    },
  } as unknown as RouteWriter;
  const addresses = new BoundAddresses(route);
  addresses.read();
  t.strictSame([...addresses], ['10.96.0.1', 'fd00:96::1', 'fd00:96::2'], 'link-local ones are the kernel’s own');
  t.ok(addresses.has('fd00:96::1'));
  t.notOk(addresses.isRight('fd00:96::1'));
  t.ok(addresses.isRight('10.96.0.1') && addresses.isRight('fd00:96::2'));
  t.notOk(addresses.has('fe80::1') || addresses.isRight('10.96.0.9'));
  t.equal((await addresses.bind(['fd00:96::1'])).size, 0);
  t.strictSame(added, ['fd00:96::1']);
  t.ok(addresses.isRight('fd00:96::1'));
  addresses.read();
  t.notOk(addresses.isRight('fd00:96::1'), 'what the kernel says counts');
});
