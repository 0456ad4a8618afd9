// The connection against a socket that answers as told: what is sent, what is made of refusals and interruptions.
import t from 'tap';
import { IpvsConnection, type IpvsSocket } from '../../../native/ipvs/connection.ts';
import { COMMAND, writeServer } from '../../../native/ipvs/message.ts';
import type { VirtualServer } from '../../../native/ipvs/objects.ts';
import type { IpvsRequest } from '../../../native/ipvs/requests.ts';
import { NetlinkError } from '../../../native/netlink/error.ts';
import { genlmsghdr } from '../../../native/netlink/generic.ts';
import { type Message, MessageWriter, messages, NLM_F_ACK, NLMSG_ERROR } from '../../../native/netlink/message.ts';

const [FAMILY, ENOENT, EEXIST] = [0x20, 2, 17];

const web = (n: number): VirtualServer => ({
  family: 'IPv4',
  protocol: 'TCP',
  ip: `10.96.${n >> 8}.${n & 255}`,
  port: 80,
  scheduler: 'rr',
  flags: 0,
  timeoutSeconds: 0,
});
const added = (n: number): IpvsRequest => ({ command: 'newServer', server: web(n) });

function serverAnswer(server: VirtualServer): Message {
  const writer = new MessageWriter();
  writer.startMessage(FAMILY, 2, 0);
  writer.raw(genlmsghdr(COMMAND.newServer));
  writeServer(writer, server, server);
  writer.endMessage();
  const [message] = messages(Buffer.from(writer.bytes()));
  return message!;
}

/** Keeps each datagram's flags; refuses the nth message sent (from 0) with the errno of `refuse`. */
class FakeSocket implements IpvsSocket {
  readonly datagrams: number[][] = [];
  readonly refuse: ReadonlyMap<number, number>;
  readonly dumps: boolean[];
  closed = false;
  #seq = 0;
  #messages = 0;
  #replies: Buffer[] = [];

  constructor(options: { refuse?: ReadonlyMap<number, number>; dumps?: boolean[] } = {}) {
    this.refuse = options.refuse ?? new Map();
    this.dumps = options.dumps ?? [];
  }

  nextSeq(): number {
    return ++this.#seq;
  }

  send(bytes: Buffer): void {
    const sent = [...messages(bytes)];
    this.datagrams.push(sent.map((message) => message.flags));
    for (const { seq, flags } of sent) {
      const errno = this.refuse.get(this.#messages++) ?? 0;
      if (errno === 0 && (flags & NLM_F_ACK) === 0) continue;
      const reply = Buffer.alloc(36);
      reply.writeUInt32LE(36, 0);
      reply.writeUInt16LE(NLMSG_ERROR, 4);
      reply.writeUInt32LE(seq, 8);
      reply.writeInt32LE(-errno, 16);
      this.#replies.push(reply);
    }
  }

  receive(): Buffer | null {
    return this.#replies.shift() ?? null;
  }

  dump(name: string, _request: Buffer, _seq: number, visit: (message: Message) => void): boolean {
    if (!name.startsWith('generic netlink family')) return this.dumps.shift()!;
    const writer = new MessageWriter();
    writer.startMessage(16, 0, 1);
    writer.raw(genlmsghdr(1));
    writer.attrHostU16(1, FAMILY);
    writer.endMessage();
    for (const message of messages(writer.bytes())) visit(message);
    return true;
  }

  *dumpInParts(
    _name: string,
    _request: Buffer,
    _seq: number,
    visit: (message: Message) => void,
  ): Generator<boolean | null, void> {
    const complete = this.dumps.shift()!;
    visit(serverAnswer(web(1)));
    yield null;
    if (complete) visit(serverAnswer(web(2)));
    yield complete;
  }

  close(): void {
    this.closed = true;
  }
}

t.test('a kernel without IPVS, and one that refuses', async (t) => {
  const answer = (errno: number): FakeSocket =>
    Object.assign(new FakeSocket(), {
      dump: () => {
        throw new NetlinkError('family', errno);
      },
    });
  const none = answer(ENOENT);
  t.equal(IpvsConnection.open({ socket: none }), null);
  t.ok(none.closed);
  const refusing = answer(1);
  t.throws(() => IpvsConnection.open({ socket: refusing }), { code: 'EPERM' });
  t.ok(refusing.closed);
});

t.test('requests go in datagrams of 200, acknowledged once each', async (t) => {
  const socket = new FakeSocket();
  const connection = IpvsConnection.open({ socket })!;
  const requests = Array.from({ length: 450 }, (_, n) => added(n));
  t.strictSame(await connection.apply(requests), []);
  t.strictSame(
    socket.datagrams.map((flags) => flags.length),
    [200, 200, 50],
  );
  for (const flags of socket.datagrams) {
    t.strictSame(
      flags.map((f) => (f & NLM_F_ACK) !== 0),
      flags.map((_, i) => i === flags.length - 1),
    );
  }
  t.equal(connection.messagesSent, 450);
  t.strictSame(await connection.apply([]), []);
  t.equal(socket.datagrams.length, 3, 'nothing to do, nothing sent');
});

t.test('exactly the failed ones come back, in order', async (t) => {
  const refuse = new Map([3, 199, 200, 449].map((n) => [n, EEXIST]));
  const connection = IpvsConnection.open({ socket: new FakeSocket({ refuse }) })!;
  const requests = Array.from({ length: 450 }, (_, n) => added(n));
  const failures = await connection.apply(requests);
  t.strictSame(
    failures.map(({ request }) => requests.indexOf(request)),
    [...refuse.keys()],
  );
  t.match(failures[1]!.error, { code: 'EEXIST', message: 'add virtual server TCP 10.96.0.199:80: EEXIST' });
});

t.test('invalid requests are not sent and disturb no other', async (t) => {
  const invalid = (n: number): IpvsRequest => ({ command: 'newServer', server: { ...web(n), port: 0 } });
  // Sent are requests 1 and 3, and the last, which is invalid, is not the one to be acknowledged.
  const socket = new FakeSocket({ refuse: new Map([[1, EEXIST]]) });
  const connection = IpvsConnection.open({ socket })!;
  const requests = [invalid(0), added(1), invalid(2), added(3), invalid(4)];
  const failures = await connection.apply(requests);
  t.strictSame(
    failures.map(({ request, error }) => [requests.indexOf(request), error.code]),
    [
      [0, 'EINVAL'],
      [2, 'EINVAL'],
      [3, 'EEXIST'],
      [4, 'EINVAL'],
    ],
  );
  t.equal(
    failures[0]!.error.message,
    'add virtual server TCP 10.96.0.0:0: EINVAL (port 0 is not 1 to 65535)',
    'names object and field',
  );
  t.strictSame(socket.datagrams.length, 1);
  t.equal((await connection.apply([invalid(5)])).length, 1);
  t.equal(socket.datagrams.length, 1, 'nothing valid, nothing sent');
  t.equal(connection.messagesSent, 2);
});

t.test('without an answer the outcome is unknown', async (t) => {
  const socket = Object.assign(new FakeSocket(), { receive: () => null });
  await t.rejects(IpvsConnection.open({ socket })!.apply([added(1)]), { code: 'EAGAIN' });
});

t.test('an interrupted listing is repeated, at most five attempts in all', async (t) => {
  const settling = IpvsConnection.open({ socket: new FakeSocket({ dumps: [false, false, true] }) })!;
  t.strictSame(await settling.servers(), [web(1), web(2)], 'what interrupted listings found is not counted again');
  t.equal(settling.messagesSent, 3);

  const dumps = [false, false, false, false, false, true];
  const never = IpvsConnection.open({ socket: new FakeSocket({ dumps: [...dumps] }) })!;
  await t.rejects(never.servers(), { code: 'EINTR' });
  t.equal(never.messagesSent, 5);

  const real = IpvsConnection.open({ socket: new FakeSocket({ dumps: [...dumps] }) })!;
  const message = /^list real servers of TCP 10\.96\.0\.1:80: EINTR/;
  t.throws(() => real.realServers(web(1)), { code: 'EINTR', message });
  t.equal(real.messagesSent, 5);
});

t.test('nothing is asked in the middle of a listing', async (t) => {
  const socket = new FakeSocket({ dumps: [true, true] });
  const connection = IpvsConnection.open({ socket })!;
  const parts = socket.dumpInParts.bind(socket);
  const refusals: unknown[] = [];
  socket.dumpInParts = function* (...args) {
    for (const end of parts(...args)) {
      try {
        connection.timeouts();
      } catch (error) {
        refusals.push((error as Error).message);
      }
      yield end;
    }
  };
  await connection.servers();
  const message = 'IPVS is asked for something while its virtual servers are being listed';
  t.strictSame(refusals, [message, message]);
  t.strictSame(connection.timeouts(), { tcp: 0, tcpFin: 0, udp: 0 }, 'and afterwards it can be asked again');
});

t.test('timeouts and identities are checked', async (t) => {
  const connection = IpvsConnection.open({ socket: new FakeSocket() })!;
  const cases = [
    [{ tcp: -1, tcpFin: 0, udp: 0 }, 'IPVS timeouts: tcp -1 is not a number of seconds'],
    [{ tcp: 0, tcpFin: 0.5, udp: 0 }, 'IPVS timeouts: tcpFin 0.5 is not a number of seconds'],
    [{ tcp: 0, tcpFin: 0, udp: 2 ** 31 }, 'IPVS timeouts: udp 2147483648 is not a number of seconds'],
  ] as const;
  for (const [timeouts, message] of cases) {
    t.throws(() => connection.setTimeouts(timeouts), { name: 'RangeError', message });
  }
  const message = 'list real servers of TCP 10.96.0.1:70000: port 70000 is not 0 to 65535';
  t.throws(() => connection.realServers({ ...web(1), port: 70000 }), { name: 'RangeError', message });
  t.equal(connection.messagesSent, 0);
});
