import t from 'tap';
import { nodeName } from '../../agent/config/node-name.ts';

t.test('override or host name, trimmed and lower-cased; empty is refused', async (t) => {
  t.equal(nodeName('', 'Host-1'), 'host-1');
  t.equal(nodeName('  Worker-A ', 'x'), 'worker-a');
  t.throws(() => nodeName('  ', 'x'), { message: /hostnameOverride/ });
  t.throws(() => nodeName('', ''), { message: /--hostname-override/ });
});
