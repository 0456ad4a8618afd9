// What the own Node decides at the start, and what its changes do (P-12…P-14).
import t from 'tap';
import { loadConfig } from '../agent/config/load.ts';
import type { Config } from '../agent/config/types.ts';
import { NodeChanges, nodeFacts } from '../agent/node-facts.ts';
import type { Node } from '../agent/state/node.ts';
import { RecordingLog } from './source/harness.ts';

function config(...argv: string[]): Config {
  const loaded = loadConfig({ argv, readFile: () => '' });
  if (loaded.action !== 'run') throw new Error(loaded.action);
  return loaded.config;
}

const NODE: Node = {
  name: 'node-a',
  zone: '',
  podCidrs: ['10.244.1.0/24'],
  addresses: [{ type: 'InternalIP', ip: '192.0.2.11' }],
  deleting: false,
  taintKeys: [],
};
const NODE_CIDR = config('--detect-local-mode=NodeCIDR');

t.test('primary is resolved, the rest taken from the Node', async (t) => {
  const log = new RecordingLog();
  t.match(nodeFacts(NODE, { config: config('--proxy-mode=nftables'), log }), {
    addresses: { primaryFamily: 'IPv4', IPv4: '192.0.2.11', IPv6: '::1' },
    podCidrs: ['10.244.1.0/24'],
    nodePortCidrs: ['192.0.2.11/32'],
  });
  t.equal(log.count('warn'), 0);
  t.match(nodeFacts(null, { config: config(), log }), {
    addresses: { IPv4: '127.0.0.1' },
    nodePortCidrs: { length: 0 },
  });
  t.equal(log.count('nodePortAddresses: not set'), 1);
});

t.test('what cannot be served is an error that names the field', async (t) => {
  const node = { ...NODE, podCidrs: ['fd00::/64'] };
  t.throws(() => nodeFacts(node, { config: NODE_CIDR, log: new RecordingLog() }), {
    name: 'ConfigError',
    message: /^spec\.podCIDRs of the Node: fd00::\/64/,
  });
});

t.test('other pod CIDRs need a restart in mode NodeCIDR, none count as other ones', async (t) => {
  const log = new RecordingLog();
  const other = { ...NODE, podCidrs: ['10.244.2.0/24'] };
  const changes = new NodeChanges(NODE, { config: NODE_CIDR, log });
  t.equal(changes.updated({ ...NODE, zone: 'b' }), null);
  t.equal(changes.updated(other), 'the pod CIDRs of this Node changed from 10.244.1.0/24 to 10.244.2.0/24');
  t.match(changes.updated({ ...NODE, podCidrs: [] }), /to none$/);
  t.equal(new NodeChanges(NODE, { config: config(), log }).updated(other), null, 'other modes do not use them');
});

t.test('changed addresses and the deletion are told, once', async (t) => {
  const log = new RecordingLog();
  const changes = new NodeChanges(NODE, { config: config(), log });
  const moved: Node = { ...NODE, addresses: [{ type: 'InternalIP', ip: '192.0.2.99' }] };
  t.equal(changes.updated(moved), null);
  t.equal(changes.updated({ ...moved, zone: 'b' }), null);
  t.equal(log.count('the addresses of this Node changed'), 1);
  changes.removed();
  t.equal(log.count('this Node was deleted'), 1);
});
