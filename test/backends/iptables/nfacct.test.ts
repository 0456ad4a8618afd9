// The counters for metrics: created, kept, fed by rules; and a kernel without them.

import { createSocket } from 'node:dgram';
import t from 'tap';
import { type AcctSocket, COUNTERS, createCounters, readCounters } from '../../../backends/iptables/nfacct.ts';
import { MessageWriter, NLMSG_ERROR } from '../../../native/netlink/message.ts';
import { TestTool } from '../../support/iptables-variant.ts';
import { enterNamespace } from '../../support/own-namespace.ts';

/** A kernel that answers every request with an errno. */
function refusing(errno: number): AcctSocket & { closed: boolean } {
  let seq = 0;
  const socket = {
    closed: false,
    nextSeq: () => ++seq,
    send: () => {},
    receive: () => {
      const writer = new MessageWriter(64);
      writer.startMessage(NLMSG_ERROR, 0, seq);
      const code = Buffer.alloc(20);
      code.writeInt32LE(-errno, 0);
      writer.raw(code.toString('latin1'));
      writer.endMessage();
      return writer.bytes();
    },
    dump: () => true,
    close: () => {
      socket.closed = true;
    },
  };
  return socket;
}

// First of all: an ordinary user's run begins anew in a user namespace.
const inNamespace = await enterNamespace(t);

t.test('answers of the kernel', async (t) => {
  for (const [errno, names] of [
    [0, COUNTERS],
    [16, COUNTERS],
    [22, []],
    [1, []],
  ] as const) {
    const socket = refusing(errno);
    t.strictSame(createCounters(socket), names, `errno ${errno}`);
    t.equal(socket.closed, true);
  }
  const silent = { ...refusing(0), receive: () => null };
  t.strictSame(createCounters(silent), [], 'no answer');
});

if (inNamespace) {
  const names = createCounters();
  const tool = new TestTool('nft', 'IPv4');
  const skip = names.length === 0 ? 'the kernel has no accounting' : tool.missing;
  t.test('in the kernel', { skip }, async (t) => {
    t.strictSame(names, ['ct_state_invalid_dropped_pkts', 'localhost_nps_accepted_pkts']);
    t.strictSame(readCounters(), new Map(names.map((name) => [name, 0n])));
    for (const name of names) tool.run('-A', 'OUTPUT', '-p', 'udp', '-m', 'nfacct', '--nfacct-name', name);
    const socket = createSocket('udp4');
    await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
    for (let i = 0; i < 3; i++) {
      await new Promise<void>((resolve) => socket.send('x', socket.address().port, '127.0.0.1', () => resolve()));
    }
    socket.close();
    t.strictSame(readCounters(), new Map(names.map((name) => [name, 3n])));
    t.strictSame(createCounters(), names, 'they exist');
    t.strictSame(readCounters(), new Map(names.map((name) => [name, 3n])), 'and keep what they have counted');
  });
}
