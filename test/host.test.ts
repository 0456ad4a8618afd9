// Families a node can serve (P-20).
import t from 'tap';
import { supportedFamilies } from '../agent/host.ts';

t.test('a family that the backend cannot serve is left out; the primary one is needed', async (t) => {
  t.ok(supportedFamilies('IPv4').includes('IPv4'));
  t.strictSame(supportedFamilies('IPv4', new Map([['IPv6', 'no ip6tables']])), ['IPv4']);
  t.throws(() => supportedFamilies('IPv4', new Map([['IPv4', 'no table nat']])), {
    message: "the node's primary IP family IPv4 cannot be served: no table nat",
  });
});
