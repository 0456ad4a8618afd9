// Numbers of generic netlink families, as this kernel gives them.
import t from 'tap';
import { NetlinkError } from '../../../native/netlink/error.ts';
import { genlmsghdr, resolveFamily } from '../../../native/netlink/generic.ts';
import { NETLINK_GENERIC, NetlinkSocket } from '../../../native/netlink/socket.ts';

t.test('the header', async (t) => t.equal(genlmsghdr(3), '\x03\x01\0\0'));

t.test('families of this kernel', async (t) => {
  const socket = new NetlinkSocket({ protocol: NETLINK_GENERIC });
  t.teardown(() => socket.close());
  t.equal(resolveFamily(socket, 'nlctrl'), 16, 'the one that has a fixed number');
  t.equal(resolveFamily(socket, 'kubeplumb-none'), null);
  t.equal(resolveFamily(socket, 'nlctrl'), 16, 'and the socket is in order afterwards');
});

t.test('another refusal is no answer', async (t) => {
  const socket = {
    nextSeq: () => 1,
    dump: () => {
      throw new NetlinkError('family', 1);
    },
  };
  t.throws(() => resolveFamily(socket, 'IPVS'), { code: 'EPERM' });
});
