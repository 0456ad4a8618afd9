// IPVS messages: bytes as the kernel takes them, answers as it gives them, and inputs that must not reach it.
import t from 'tap';
import { COMMAND, readDestination, readServer, readStatistics } from '../../../native/ipvs/message.ts';
import type { VirtualServer } from '../../../native/ipvs/objects.ts';
import { type IpvsRequest, requestProblem, requestText, writeRequest } from '../../../native/ipvs/requests.ts';
import { genlmsghdr } from '../../../native/netlink/generic.ts';
import { type Message, MessageWriter, messages, NLM_F_ACK } from '../../../native/netlink/message.ts';

const web: VirtualServer = {
  family: 'IPv4',
  protocol: 'TCP',
  ip: '10.96.0.1',
  port: 80,
  scheduler: 'rr',
  flags: 1,
  timeoutSeconds: 10800,
};
const web6: VirtualServer = { ...web, family: 'IPv6', ip: 'fd00:96::1', port: 443, flags: 0, timeoutSeconds: 0 };

function hex(request: IpvsRequest): string {
  const writer = new MessageWriter();
  writeRequest(writer, 0x20, NLM_F_ACK, 7, request);
  return writer
    .bytes()
    .toString('hex')
    .replaceAll(/.{8}(?!$)/g, '$& ');
}

const lines = (...text: string[]): string => text.join(' ');
const WEB_ID = '06000100 02000000 06000200 06000000 14000300 0a600001 00000000 00000000 00000000 06000400 00500000';
const POD = '14000100 0af40002 00000000 00000000 00000000 06000200 1f900000 06000b00 02000000';

t.test('requests', async (t) => {
  const destination = { ip: '10.244.0.2', port: 8080, weight: 1 };
  const cases: { name: string; request: IpvsRequest; expect: string }[] = [
    {
      name: 'a new virtual server, persistent',
      request: { command: 'newServer', server: web },
      expect: lines(
        '68000000 20000500 07000000 00000000 01010000 54000180',
        WEB_ID,
        '07000600 72720000 0c000700 01000000 ffffffff 08000800 302a0000 08000900 ffffffff',
      ),
    },
    {
      name: 'another flag, and never the one that the kernel sets itself',
      request: { command: 'setServer', server: { ...web, scheduler: 'mh', flags: 0x12, timeoutSeconds: 0 } },
      expect: lines(
        '68000000 20000500 07000000 00000000 02010000 54000180',
        WEB_ID,
        '07000600 6d680000 0c000700 10000000 ffffffff 08000800 00000000 08000900 ffffffff',
      ),
    },
    {
      name: 'IPv6 has a prefix length for its mask',
      request: { command: 'newServer', server: { ...web6, protocol: 'SCTP' } },
      expect: lines(
        '68000000 20000500 07000000 00000000 01010000 54000180',
        '06000100 0a000000 06000200 84000000 14000300 fd000096 00000000 00000000 00000001 06000400 01bb0000',
        '07000600 72720000 0c000700 00000000 ffffffff 08000800 00000000 08000900 80000000',
      ),
    },
    {
      name: 'the identity alone deletes a virtual server',
      request: { command: 'deleteServer', server: web },
      expect: lines('44000000 20000500 07000000 00000000 03010000 30000180', WEB_ID),
    },
    {
      name: 'a new real server',
      request: { command: 'newDestination', server: web, destination },
      expect: lines(
        '8c000000 20000500 07000000 00000000 05010000 30000180',
        WEB_ID,
        '48000280',
        POD,
        '08000300 00000000 08000400 01000000 08000500 00000000 08000600 00000000',
      ),
    },
    {
      name: 'another weight',
      request: { command: 'setDestination', server: web, destination: { ...destination, weight: 0 } },
      expect: lines(
        '8c000000 20000500 07000000 00000000 06010000 30000180',
        WEB_ID,
        '48000280',
        POD,
        '08000300 00000000 08000400 00000000 08000500 00000000 08000600 00000000',
      ),
    },
    {
      name: 'the identity alone deletes a real server',
      request: { command: 'deleteDestination', server: web, destination },
      expect: lines('6c000000 20000500 07000000 00000000 07010000 30000180', WEB_ID, '28000280', POD),
    },
  ];
  for (const { name, request, expect } of cases) {
    t.equal(requestProblem(request), null, `${name}: nothing is wrong with it`);
    t.equal(hex(request), expect, name);
  }
});

t.test('requests in words', async (t) => {
  const destination = { ip: 'fd00::2', port: 8443 };
  t.equal(requestText({ command: 'newServer', server: web }), 'add virtual server TCP 10.96.0.1:80');
  t.equal(
    requestText({ command: 'deleteDestination', server: web6, destination }),
    'delete real server [fd00::2]:8443 of TCP [fd00:96::1]:443',
  );
});

t.test('what cannot be is named by its field', async (t) => {
  const server = (change: object): IpvsRequest => ({ command: 'newServer', server: { ...web, ...change } });
  const destination = (change: object): IpvsRequest => ({
    command: 'setDestination',
    server: web,
    destination: { ip: '10.244.0.2', port: 8080, weight: 1, ...change },
  });
  const cases: readonly (readonly [IpvsRequest, string])[] = [
    [server({ protocol: 'ICMP' }), 'protocol "ICMP" is not TCP, UDP or SCTP'],
    [server({ ip: '10.96.0.256' }), 'ip "10.96.0.256" is no IPv4 address'],
    [server({ ip: 'fd00::1' }), 'ip "fd00::1" is no IPv4 address'],
    [server({ family: 'IPv6' }), 'ip "10.96.0.1" is no IPv6 address'],
    [server({ port: 0 }), 'port 0 is not 1 to 65535'],
    [server({ port: 65536 }), 'port 65536 is not 1 to 65535'],
    [server({ port: 80.5 }), 'port 80.5 is not 1 to 65535'],
    [server({ scheduler: '' }), 'scheduler "" is not 1 to 15 printable characters'],
    [server({ scheduler: 'sixteen-letters-' }), 'scheduler "sixteen-letters-" is not 1 to 15 printable characters'],
    [server({ flags: -1 }), 'flags -1 are not 32 bits'],
    [server({ timeoutSeconds: 0.5 }), 'timeoutSeconds 0.5 is not 0 to 4294967295'],
    [destination({ ip: 'pod' }), 'destination ip "pod" is no IP address'],
    [destination({ port: 0 }), 'destination port 0 is not 1 to 65535'],
    [destination({ weight: -1 }), 'destination weight -1 is not 0 to 2147483647'],
    [{ command: 'deleteServer', server: { ...web, port: -1 } }, 'port -1 is not 0 to 65535'],
    [
      { command: 'deleteDestination', server: web, destination: { ip: '::', port: 70000 } },
      'destination port 70000 is not 0 to 65535',
    ],
  ];
  for (const [request, expect] of cases) t.equal(requestProblem(request), expect);
});

t.test('servers that others made with port 0 can be deleted', async (t) => {
  t.equal(requestProblem({ command: 'deleteServer', server: { ...web, port: 0 } }), null);
  const destination = { ip: '10.244.0.2', port: 0 };
  t.equal(requestProblem({ command: 'deleteDestination', server: { ...web, port: 0 }, destination }), null);
});

/** An answer of the kernel with one nest. */
function answer(command: number, nest: number, fill: (writer: MessageWriter) => void): Message {
  const writer = new MessageWriter();
  writer.startMessage(0x20, 2, 7);
  writer.raw(genlmsghdr(command));
  const at = writer.nest(nest);
  fill(writer);
  writer.endNest(at);
  writer.endMessage();
  const [message] = messages(Buffer.from(writer.bytes()));
  return message!;
}

const own = (server: VirtualServer): Message => {
  const writer = new MessageWriter();
  writeRequest(writer, 0x20, 0, 7, { command: 'newServer', server });
  const [message] = messages(Buffer.from(writer.bytes()));
  return message!;
};

t.test('virtual servers are read', async (t) => {
  for (const server of [web, web6, { ...web, port: 0 }, { ...web6, ip: '::ffff:a60:1' }]) {
    t.strictSame(readServer(own(server)), server, 'as they are written');
  }
  t.strictSame(
    readServer(
      answer(COMMAND.newServer, 1, (w) => {
        w.attrHostU16(1, 2);
        w.attrHostU16(2, 17);
        w.attr(3, '\x0a\x60\0\x0a'.padEnd(16, '\0'));
        w.attr(4, '\0\x35');
        w.attrString(6, 'wlc');
        w.attr(7, '\x06\0\0\x80\xff\xff\xff\xff');
        w.attrHostU32(8, 0);
        w.attrHostU32(9, 0xffffffff);
        w.attr(10, '');
        w.attr(99, 'unknown');
      }),
    ),
    {
      family: 'IPv4',
      protocol: 'UDP',
      ip: '10.96.0.10',
      port: 53,
      scheduler: 'wlc',
      flags: 0x80000004,
      timeoutSeconds: 0,
    },
    'without the flag that the kernel sets itself',
  );
});

t.test('servers without an identity of ours are left out', async (t) => {
  const head = (w: MessageWriter, af: number, protocol: number): void => {
    w.attrHostU16(1, af);
    w.attrHostU16(2, protocol);
    w.attr(3, '\x0a\x60\0\x0a'.padEnd(16, '\0'));
    w.attr(4, '\0\x35');
  };
  const cases = [
    {
      name: 'firewall mark',
      fill: (w: MessageWriter) => {
        w.attrHostU16(1, 2);
        w.attrHostU32(5, 7);
      },
    },
    { name: 'another protocol', fill: (w: MessageWriter) => head(w, 2, 51) },
    { name: 'another family', fill: (w: MessageWriter) => head(w, 7, 6) },
    { name: 'nothing', fill: () => {} },
  ];
  for (const { name, fill } of cases) t.equal(readServer(answer(COMMAND.newServer, 1, fill)), null, name);
  t.equal(readServer(answer(COMMAND.newDestination, 2, (w) => head(w, 2, 6))), null, 'no nest of a server');
});

t.test('real servers are read in whichever order their attributes come', async (t) => {
  const message = answer(COMMAND.newDestination, 2, (w) => {
    w.attr(1, '\x0a\xf4\0\x02'.padEnd(16, '\0'));
    w.attr(2, '\x1f\x90');
    w.attrHostU32(3, 0);
    w.attrHostU32(4, 0);
    w.attr(13, '\0');
    w.attr(14, '\0\0');
    w.attrHostU16(15, 0);
    w.attrHostU32(5, 0);
    w.attrHostU32(6, 0);
    w.attrHostU32(7, 3);
    w.attrHostU32(8, 5);
    w.attrHostU32(9, 9);
    w.attrHostU16(11, 2);
  });
  t.strictSame(readDestination(message), { ip: '10.244.0.2', port: 8080, weight: 0, active: 3, inactive: 5 });
  t.equal(readDestination(own(web)), null, 'no nest of a real server');
});

t.test('statistics are read', async (t) => {
  const message = answer(COMMAND.newServer, 1, (w) => {
    w.attr(10, 'short counters');
    const nest = w.nest(12);
    for (let type = 1; type <= 10; type++) w.attr(type, `${String.fromCharCode(type)}\0\0\0\x01\0\0\0`);
    w.endNest(nest);
  });
  const high = 1n << 32n;
  t.strictSame(readStatistics(message), {
    connections: high + 1n,
    packetsIn: high + 2n,
    packetsOut: high + 3n,
    bytesIn: high + 4n,
    bytesOut: high + 5n,
  });
  t.equal(readStatistics(own(web)), null);
});

t.test('damaged answers are a RangeError or read, and never anything else', async (t) => {
  const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
  t.comment(`FUZZ_SEED=${seed}`);
  let state = seed;
  const random = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >> 8) % below;
  };
  let refused = 0;
  for (let i = 0; i < 5000; i++) {
    const whole = own(i & 1 ? web : web6);
    const buffer = Buffer.from(whole.buffer);
    for (let n = 1 + random(4); n > 0; n--) buffer[whole.start + random(whole.end - whole.start)] = random(256);
    try {
      readServer({ ...whole, buffer });
      readDestination({ ...whole, buffer });
      readStatistics({ ...whole, buffer });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      refused++;
    }
  }
  t.ok(refused > 0 && refused < 5000, `${refused} of 5000 refused`);
});
