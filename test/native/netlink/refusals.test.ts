// Answers to a datagram of requests of which only the last is acknowledged.
import t from 'tap';
import { MessageWriter, NLMSG_ERROR } from '../../../native/netlink/message.ts';
import { readRefusals } from '../../../native/netlink/refusals.ts';

/** A datagram that answers requests: sequence number and errno of each. */
function answers(...list: readonly (readonly [seq: number, errno: number])[]): Buffer {
  const writer = new MessageWriter();
  for (const [seq, errno] of list) {
    writer.startMessage(NLMSG_ERROR, 0, seq);
    writer.attrHostU32(0, 0); // room for errno and the start of the request's header
    writer.buffer.writeInt32LE(-errno, writer.length - 8);
    writer.endMessage();
  }
  return Buffer.from(writer.bytes());
}

const socket = (...datagrams: readonly (Buffer | null)[]) => {
  const left = [...datagrams];
  return { left, receive: () => left.shift() ?? null };
};

t.test('refusals by place', async (t) => {
  const cases = [
    { name: 'all done', datagrams: [answers([9, 0])], expect: [] },
    { name: 'one in the middle', datagrams: [answers([8, 17]), answers([9, 0])], expect: [[1, 17]] },
    {
      name: 'several in one datagram, the last too',
      datagrams: [answers([7, 3], [9, 2])],
      expect: [
        [0, 3],
        [2, 2],
      ],
    },
    { name: 'late answers to others are passed over', datagrams: [answers([4, 1]), answers([9, 0])], expect: [] },
  ];
  for (const { name, datagrams, expect } of cases) {
    const from = socket(...datagrams);
    const refusals = [...readRefusals(from, 'test', [7, 8, 9])];
    t.strictSame(
      refusals.map(([place, ack]) => [place, ack.errno]),
      expect,
      name,
    );
    t.strictSame(from.left, [], `${name}: nothing is left to read`);
  }
});

t.test('without the last answer the outcome is unknown', async (t) => {
  t.throws(() => readRefusals(socket(answers([8, 17])), 'change things', [7, 8, 9]), {
    code: 'EAGAIN',
    message: 'change things: EAGAIN (no reply)',
  });
});
