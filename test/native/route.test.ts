// Links and addresses of a namespace, and the monitor that tells when they change.
import t from 'tap';
import { NetlinkError } from '../../native/netlink/error.ts';
import { MessageWriter } from '../../native/netlink/message.ts';
import { NetlinkSocket } from '../../native/netlink/socket.ts';
import { type InterfaceAddress, listAddresses, listLinks } from '../../native/route/addresses.ts';
import { ADDRESS_FLAG, LINK_FLAG, readAddress, readLink } from '../../native/route/message.ts';
import { RouteMonitor } from '../../native/route/monitor.ts';
import { createNamespaces, ipBatch, namespacesMissing, removeNamespaces, within } from '../support/namespaces.ts';

const needsKernel = { skip: (await namespacesMissing(['ip'])) ?? false };

/** The payload of RTM_NEWADDR: `head` is an ifaddrmsg, then attributes. */
function addressPayload(head: string, attributes: readonly (readonly [number, string])[]): Buffer {
  const writer = new MessageWriter();
  writer.raw(head);
  for (const [type, bytes] of attributes) writer.attr(type, bytes);
  return Buffer.from(writer.bytes());
}

t.test('addresses are decoded', async (t) => {
  const local = '\xc0\x00\x02\x01';
  const cases = [
    {
      name: 'IFA_LOCAL wins over the peer of a point-to-point link; long flags win over the short ones',
      payload: addressPayload('\x02\x20\x80\x00\x05\0\0\0', [
        [1, '\xc0\x00\x02\x02'],
        [2, local],
        [8, '\x80\x02\x00\x00'],
      ]),
      expect: { index: 5, ip: '192.0.2.1', prefix: 32, family: 'IPv4', scope: 'global', flags: 0x280 },
    },
    {
      name: 'IPv6 has IFA_ADDRESS only',
      payload: addressPayload('\x0a\x40\x40\xfd\x02\0\0\0', [[1, `\xfe\x80${'\0'.repeat(13)}\x01`]]),
      expect: { index: 2, ip: 'fe80::1', prefix: 64, family: 'IPv6', scope: 'link', flags: ADDRESS_FLAG.tentative },
    },
    { name: 'another family', payload: addressPayload('\x1c\x40\x00\x00\x02\0\0\0', [[1, local]]), expect: null },
    { name: 'no address', payload: addressPayload('\x02\x40\x00\x00\x02\0\0\0', []), expect: null },
  ];
  for (const { name, payload, expect } of cases) t.strictSame(readAddress(payload), expect, name);
});

t.test('what does not fit is a RangeError', async (t) => {
  t.throws(() => readAddress(Buffer.alloc(7)), RangeError);
  t.throws(() => readAddress(addressPayload('\x02\x20\x00\x00\x05\0\0\0', [[2, '\x01\x02']])), RangeError);
  t.throws(() => readAddress(addressPayload('\x02\x20\x00\x00\x05\0\0\0', [[2, '1234']]).subarray(0, 14)), RangeError);
  t.throws(() => readLink(Buffer.alloc(15)), RangeError);
});

const LINK = 16;
const ADDRESS = 20;

/** A notification of a link, or of an address of a link. */
function notification(type: number, linkIndex: number): Buffer {
  const out = Buffer.alloc(24);
  out.writeUInt32LE(24, 0);
  out.writeUInt16LE(type, 4);
  out.writeUInt32LE(linkIndex, 20);
  return out;
}

t.test('addresses of links that nobody cares for are no change', async (t) => {
  const answers: Buffer[] = [];
  const monitor = new RouteMonitor({ socket: { receive: () => answers.shift() ?? null, close: () => undefined } });
  const isSeven = (index: number): boolean => index === 7;
  answers.push(notification(ADDRESS, 7));
  t.equal(monitor.drain(isSeven), false);
  answers.push(notification(ADDRESS, 7), notification(ADDRESS, 8), notification(ADDRESS, 7));
  t.equal(monitor.drain(isSeven), true);
  answers.push(notification(LINK, 7));
  t.equal(monitor.drain(isSeven), true, 'the link itself');
  answers.push(notification(ADDRESS, 7));
  t.equal(monitor.drain(), true);
});

t.test('lost notifications count as a change, other errors are thrown', async (t) => {
  const answers: (Buffer | null | Error)[] = [];
  const socket = {
    receive: () => {
      const next = answers.shift() ?? null;
      if (next instanceof Error) throw next;
      return next;
    },
    close: () => undefined,
  };
  const monitor = new RouteMonitor({ socket });
  t.equal(monitor.drain(), false);
  answers.push(new NetlinkError('receive', 105), notification(LINK, 1), notification(LINK, 1));
  t.equal(monitor.drain(), true);
  t.equal(answers.length, 0, 'everything was read');
  answers.push(new NetlinkError('receive', 1));
  t.throws(() => monitor.drain(), NetlinkError);
});

t.test('the kernel lists links and addresses', needsKernel, async (t) => {
  createNamespaces(['route']);
  t.teardown(() => removeNamespaces(['route']));
  ipBatch(
    [
      'link add eth1 type veth peer name eth0',
      'link set lo up',
      'link set eth0 up',
      'addr add 192.0.2.1/24 dev eth0',
      'addr add 192.0.2.9/24 dev eth0',
      'addr add 198.51.100.1 peer 198.51.100.2/32 dev eth1',
      'addr add 2001:db8::1/64 dev eth0 nodad',
    ],
    'route',
  );
  const inside = (): Promise<InterfaceAddress[]> => within('route', listAddresses);
  const shown = (address: InterfaceAddress): string =>
    `${address.interface} ${address.ip}/${address.prefix} ${address.family} ${address.scope}`;

  const addresses = await inside();
  t.strictSame(
    addresses.map(shown).filter((line) => !line.includes('fe80')),
    [
      'lo 127.0.0.1/8 IPv4 host',
      'eth0 192.0.2.1/24 IPv4 global',
      'eth0 192.0.2.9/24 IPv4 global',
      'eth1 198.51.100.1/32 IPv4 global',
      'lo ::1/128 IPv6 host',
      'eth0 2001:db8::1/64 IPv6 global',
    ],
  );
  t.strictSame(
    addresses.filter((address) => address.loopback).map((address) => address.ip),
    ['127.0.0.1', '::1'],
  );
  const secondary = addresses.filter((address) => address.flags & ADDRESS_FLAG.secondary);
  t.strictSame(
    secondary.map((address) => address.ip),
    ['192.0.2.9'],
  );

  const links = await within('route', listLinks);
  t.strictSame(links.map((link) => link.name).sort(), ['eth0', 'eth1', 'lo']);
  t.ok(links.find((link) => link.name === 'lo')!.flags & LINK_FLAG.loopback);
  t.notOk(links.find((link) => link.name === 'eth1')!.flags & LINK_FLAG.up);

  t.test('more than one datagram of them', async (t) => {
    const many = Array.from({ length: 1500 }, (_, i) => `10.9.${i >> 8}.${i & 255}`);
    ipBatch(
      many.map((ip) => `addr add ${ip}/32 dev eth1`),
      'route',
    );
    const found = new Set((await inside()).map((address) => address.ip));
    t.strictSame(
      many.filter((ip) => !found.has(ip)),
      [],
    );
  });

  t.test('several listings at the same time', async (t) => {
    const counts = await Promise.all([inside(), inside(), inside()]);
    t.equal(new Set(counts.map((list) => list.length)).size, 1);
    t.ok(counts[0]!.length > 1500);
  });
});

t.test('the monitor tells of changes once', needsKernel, async (t) => {
  createNamespaces(['monitor']);
  t.teardown(() => removeNamespaces(['monitor']));
  const monitor = within('monitor', () => new RouteMonitor());
  t.teardown(() => monitor.close());
  const changes = [
    { name: 'a link comes', line: 'link add eth0 type veth peer name eth1' },
    { name: 'an IPv4 address comes', line: 'addr add 192.0.2.1/24 dev eth0' },
    { name: 'an IPv6 address comes', line: 'addr add 2001:db8::1/64 dev eth0 nodad' },
    { name: 'an address goes', line: 'addr del 192.0.2.1/24 dev eth0' },
    { name: 'a link goes', line: 'link del eth0' },
  ];
  t.equal(monitor.drain(), false, 'quiet');
  for (const { name, line } of changes) {
    ipBatch([line], 'monitor');
    t.equal(monitor.drain(), true, name);
    t.equal(monitor.drain(), false, `${name}: told once`);
  }
  ipBatch(['route add prohibit 203.0.113.0/24'], 'monitor');
  t.equal(monitor.drain(), false, 'a route is no change');
});

t.test('the monitor survives an overflow', needsKernel, async (t) => {
  createNamespaces(['overflow']);
  t.teardown(() => removeNamespaces(['overflow']));
  const socket = within('overflow', () => new NetlinkSocket({ protocol: 0, groups: [5], receiveBuffer: 4096 }));
  let lost = 0;
  const monitor = new RouteMonitor({
    socket: {
      receive() {
        try {
          return socket.receive();
        } catch (error) {
          if (error instanceof NetlinkError && error.code === 'ENOBUFS') lost++;
          throw error;
        }
      },
      close: () => socket.close(),
    },
  });
  t.teardown(() => monitor.close());
  ipBatch(
    Array.from({ length: 200 }, (_, i) => `addr add 10.9.0.${i}/32 dev lo`),
    'overflow',
  );
  t.equal(monitor.drain(), true);
  t.equal(lost, 1);
  t.equal(monitor.drain(), false);
});
