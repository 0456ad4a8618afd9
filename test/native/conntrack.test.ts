// UDP entries of the connection tracking table: requests, decoding, and the kernel's answers in a namespace.
import t from 'tap';
import { ConntrackConnection, type ConntrackSocket } from '../../native/conntrack/connection.ts';
import { CT_NEW, CTA, entryReader, startConntrack, type UdpEntry, writeTuple } from '../../native/conntrack/message.ts';
import { NetlinkError } from '../../native/netlink/error.ts';
import { type Message, MessageWriter, messages, NLMSG_ERROR } from '../../native/netlink/message.ts';
import { createEntries, dnatEntry } from '../support/conntrack-entries.ts';
import { createNamespaces, namespacesMissing, removeNamespaces, within } from '../support/namespaces.ts';

const missing = await namespacesMissing(['ip']);
const needsKernel = { skip: missing ?? false };

const texts = (entries: readonly UdpEntry[]): string[] =>
  entries.map(({ original: o, reply: r }) => `${o.src} ${o.sport} > ${o.dst} ${o.dport} < ${r.src} ${r.sport}`).sort();

/** The message a dump answers with for an entry. */
function answer(entry: Pick<UdpEntry, 'family' | 'original' | 'reply'>, protocol = 17, zone?: number): Message {
  const writer = new MessageWriter();
  startConntrack(writer, CT_NEW, 0, 1, entry.family);
  writeTuple(writer, CTA.tupleOrig, entry.family, entry.original, protocol);
  writeTuple(writer, CTA.tupleReply, entry.family, entry.reply, protocol);
  writer.attrU32(CTA.id, 0x89abcdef);
  if (zone !== undefined) writer.attr(CTA.zone, String.fromCharCode(zone >> 8, zone & 255));
  writer.endMessage();
  const [message] = messages(Buffer.from(writer.bytes()));
  return message!;
}

const dns = dnatEntry('IPv4', ['10.128.4.30', 40000], ['10.96.0.10', 53], ['10.128.7.40', 5353]);
const dns6 = dnatEntry('IPv6', ['fd00:10:128:4::30', 40000], ['fd00:96::a', 53], ['fd00:10:128:7::40', 5353]);

t.test('an entry is decoded with canonical addresses, zone and id', async (t) => {
  const one = answer(dns);
  t.strictSame(entryReader({ family: 'IPv4' })(one.buffer, one.start, one.end), {
    family: 'IPv4',
    protocol: 17,
    original: { src: '10.128.4.30', sport: 40000, dst: '10.96.0.10', dport: 53 },
    reply: { src: '10.128.7.40', sport: 5353, dst: '10.128.4.30', dport: 40000 },
    zone: null,
    id: 0x89abcdef,
  });
  const other = answer(dns6, 17, 260);
  const entry = entryReader({ family: 'IPv6' })(other.buffer, other.start, other.end);
  t.match(entry, { original: { dst: 'fd00:96::a' }, reply: { src: 'fd00:10:128:7::40' }, zone: 260 });
});

t.test('what a kernel without filters sends too is left out', async (t) => {
  const cases = [
    { name: 'wanted', filter: { dst: '10.96.0.10', dport: 53 }, message: answer(dns), found: true },
    { name: 'other address', filter: { dst: '10.96.0.11', dport: 53 }, message: answer(dns), found: false },
    { name: 'other port', filter: { dst: '10.96.0.10', dport: 54 }, message: answer(dns), found: false },
    { name: 'any address', filter: { dport: 53 }, message: answer(dns), found: true },
    { name: 'TCP', filter: { dport: 53 }, message: answer(dns, 6), found: false },
    { name: 'other family', filter: { dport: 53 }, message: answer(dns6), found: false },
  ];
  for (const { name, filter, message, found } of cases) {
    const entry = entryReader({ family: 'IPv4', ...filter })(message.buffer, message.start, message.end);
    t.equal(entry !== null, found, name);
  }
});

t.test('an address of the other family is refused', async (t) => {
  const connection = new ConntrackConnection({ socket: fakeSocket({}) });
  t.throws(() => connection.listUdpTo({ family: 'IPv6', dst: '10.96.0.10', dport: 53 }), RangeError);
});

/** A socket that answers dumps with `dump` and deletions with the errno that `refuse` gives for their number. */
function fakeSocket(options: {
  dump?: (attempt: number) => { messages: readonly Message[]; complete: boolean };
  refuse?: (count: number) => number;
}): ConntrackSocket & { sent: number } {
  let seq = 0;
  let dumps = 0;
  const replies: Buffer[] = [];
  return {
    sent: 0,
    nextSeq: () => ++seq,
    send(bytes) {
      for (const message of messages(bytes)) {
        const errno = options.refuse?.(++this.sent) ?? 0;
        if (errno === 0 && !(message.flags & 4)) continue;
        const reply = Buffer.alloc(36);
        reply.writeUInt32LE(36, 0);
        reply.writeUInt16LE(NLMSG_ERROR, 4);
        reply.writeUInt32LE(message.seq, 8);
        reply.writeInt32LE(-errno, 16);
        replies.push(reply);
      }
    },
    receive: () => replies.shift() ?? null,
    dump(_name, _request, _seq, visit) {
      const { messages: found, complete } = options.dump!(++dumps);
      for (const message of found) visit(message);
      return complete;
    },
    close: () => undefined,
  };
}

t.test('an interrupted listing is repeated, at most five attempts in all, then partial (S-85)', async (t) => {
  let attempts = 0;
  const settling = fakeSocket({
    dump: (attempt) => ({ messages: [answer(dns)], complete: (attempts = attempt) === 3 }),
  });
  const listing = new ConntrackConnection({ socket: settling }).listUdp({ family: 'IPv4' });
  t.equal(attempts, 3);
  t.equal(listing.complete, true);
  t.equal(listing.entries.length, 1, 'entries of interrupted attempts are not counted again');

  const never = fakeSocket({ dump: (attempt) => ({ messages: [answer(dns)], complete: (attempts = attempt) > 99 }) });
  const partial = new ConntrackConnection({ socket: never }).listUdp({ family: 'IPv4' });
  t.equal(attempts, 5);
  t.equal(partial.complete, false);
  t.equal(partial.entries.length, 1);
});

t.test('a deletion is repeated when interrupted; what is gone is fine; another refusal is thrown (S-85)', async (t) => {
  const entries = [1, 2, 3].map((sport) => ({
    ...dnatEntry('IPv4', ['10.128.4.30', sport], ['10.96.0.10', 53]),
    protocol: 17 as const,
    zone: null,
    id: sport,
  }));
  const [ENOENT, EINTR, EPERM] = [2, 4, 1];
  const once = fakeSocket({ refuse: (n) => (n === 2 ? EINTR : n === 3 ? ENOENT : 0) });
  t.equal(new ConntrackConnection({ socket: once }).delete(entries), 2);
  t.equal(once.sent, 4);

  const always = fakeSocket({ refuse: () => EINTR });
  t.throws(() => new ConntrackConnection({ socket: always }).delete(entries.slice(0, 1)), { code: 'EINTR' });
  t.equal(always.sent, 5);

  const refused = fakeSocket({ refuse: (n) => (n === 1 ? EPERM : 0) });
  t.throws(() => new ConntrackConnection({ socket: refused }).delete(entries), NetlinkError);
  const silent = new ConntrackConnection({ socket: { ...fakeSocket({}), send: () => undefined } });
  t.throws(() => silent.delete(entries), { message: /no reply/ });
});

t.test('garbage in an entry is a RangeError or a harmless result', async (t) => {
  const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
  t.comment(`FUZZ_SEED=${seed}`);
  let state = seed;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  let refused = 0;
  for (let i = 0; i < 20_000; i++) {
    const { buffer, start, end } = answer(i % 2 === 0 ? dns : dns6, 17, i % 3 === 0 ? 7 : undefined);
    for (let n = random(4); n >= 0; n--) buffer[start + random(end - start)] = random(256);
    const cut = random(4) === 0 ? start + random(end - start) : end;
    try {
      entryReader({ family: i % 2 === 0 ? 'IPv4' : 'IPv6' })(buffer, start, cut);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      refused++;
    }
  }
  t.ok(refused > 1000, `${refused} of 20000 refused`);
});

t.test('the kernel lists, filters and deletes', needsKernel, async (t) => {
  createNamespaces(['conntrack']);
  t.teardown(() => removeNamespaces(['conntrack']));
  const inside = <T>(act: () => T): T => within('conntrack', act);
  const connection = inside(() => new ConntrackConnection());
  t.teardown(() => connection.close());

  const both = (['IPv4', 'IPv6'] as const).map((family) => {
    const ip = (v4: string, v6: string): string => (family === 'IPv4' ? v4 : v6);
    const client = ip('10.128.4.30', 'fd00:10:128:4::30');
    const vip = ip('10.96.0.10', 'fd00:96::a');
    const otherVip = ip('10.96.0.11', 'fd00:96::b');
    const endpoint = ip('10.128.7.40', 'fd00:10:128:7::40');
    const udp = [
      dnatEntry(family, [client, 1], [vip, 53], [endpoint, 5353]),
      dnatEntry(family, [client, 2], [vip, 53]),
      dnatEntry(family, [client, 3], [otherVip, 53], [endpoint, 5353]),
      dnatEntry(family, [client, 4], [vip, 54], [endpoint, 5353]),
    ];
    inside(() => createEntries(udp));
    inside(() => createEntries([dnatEntry(family, [client, 5], [vip, 53], [endpoint, 5353])], 6));
    return { family, vip, otherVip };
  });

  for (const { family, vip, otherVip } of both) {
    t.test(family, async (t) => {
      const all = connection.listUdp({ family });
      t.equal(all.complete, true);
      t.strictSame(
        all.entries.map((entry) => entry.original.sport).sort(),
        [1, 2, 3, 4],
        'all UDP entries of the family, no TCP',
      );
      const sports = (filter: { dst?: string; dport: number }): number[] =>
        connection
          .listUdpTo({ family, ...filter })
          .entries.map((entry) => entry.original.sport)
          .sort();
      t.strictSame(sports({ dst: vip, dport: 53 }), [1, 2]);
      t.strictSame(sports({ dst: otherVip, dport: 53 }), [3]);
      t.strictSame(sports({ dst: otherVip, dport: 54 }), []);
      t.strictSame(sports({ dport: 53 }), [1, 2, 3], 'any address, as for a node port');
      t.strictSame(sports({ dport: 55 }), []);

      const stale = connection.listUdpTo({ family, dst: vip, dport: 53 }).entries;
      t.equal(connection.delete(stale), 2);
      t.equal(connection.delete(stale), 0, 'gone already');
      t.strictSame(sports({ dport: 53 }), [3]);
    });
  }

  t.test('an entry with the same original tuple and another id is spared', async (t) => {
    const entry = dnatEntry('IPv4', ['10.128.4.31', 9], ['10.96.0.12', 53], ['10.128.7.40', 5353]);
    inside(() => createEntries([entry]));
    const list = (): readonly UdpEntry[] =>
      connection.listUdpTo({ family: 'IPv4', dst: '10.96.0.12', dport: 53 }).entries;
    const [found] = list();
    t.equal(connection.delete([{ ...found!, id: (found!.id! ^ 1) >>> 0 }]), 0);
    t.strictSame(texts(list()), ['10.128.4.31 9 > 10.96.0.12 53 < 10.128.7.40 5353']);
    t.equal(connection.delete([found!]), 1);
  });

  t.test('entries of another zone', async (t) => {
    const entry = dnatEntry('IPv4', ['10.128.4.31', 9], ['10.96.0.13', 53], ['10.128.7.40', 5353]);
    inside(() => createEntries([entry, { ...entry, zone: 7 }]));
    const list = (): readonly UdpEntry[] =>
      connection.listUdpTo({ family: 'IPv4', dst: '10.96.0.13', dport: 53 }).entries;
    t.strictSame(
      list()
        .map((found) => found.zone)
        .sort(),
      [7, null],
    );
    t.equal(connection.delete(list().filter((found) => found.zone === 7)), 1);
    t.strictSame(
      list().map((found) => found.zone),
      [null],
    );
  });

  t.test('a table of many datagrams', async (t) => {
    const many = Array.from({ length: 5000 }, (_, i) =>
      dnatEntry('IPv4', [`10.128.8.${i & 255}`, 1000 + (i >> 8)], ['10.96.1.1', 70 + (i % 10)]),
    );
    inside(() => createEntries(many));
    t.equal(connection.listUdpTo({ family: 'IPv4', dst: '10.96.1.1', dport: 73 }).entries.length, 500);
    const { entries } = connection.listUdp({ family: 'IPv4' });
    const made = entries.filter((entry) => entry.original.dst === '10.96.1.1');
    t.equal(new Set(texts(made)).size, 5000);
    t.equal(connection.delete(made), 5000);
    t.strictSame(connection.listUdpTo({ family: 'IPv4', dst: '10.96.1.1', dport: 73 }).entries, []);
  });
});
