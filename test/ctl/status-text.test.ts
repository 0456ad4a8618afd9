import t from 'tap';
import { statusText } from '../../agent/ctl/status-text.ts';
import { plainStyle, styleFor } from '../../agent/ctl/terminal.ts';
import { judge, type Status } from '../../agent/status.ts';
import { golden } from '../support/golden.ts';

const NOW = Date.UTC(2026, 10, 2, 12, 0, 0);

const well: Status = {
  version: '0.1.0',
  mode: 'nftables',
  pid: 4711,
  node: { name: 'node-a', zone: 'eu-1a' },
  families: ['IPv4', 'IPv6'],
  nowMs: NOW,
  startedMs: NOW - 11_520_000,
  verdict: 'healthy',
  reasons: [],
  sync: {
    started: true,
    syncs: 1204,
    failures: 0,
    lastSyncMs: NOW - 12_000,
    lastDurationMs: 0.84,
    firstDurationMs: 812,
    lastError: null,
    lastFailure: null,
    counts: { added: 60_210, deleted: 310, objects: 504, transactions: 1205, bytes: 4_400_000 },
    refused: [],
  },
  counts: { services: 10_000, servicePorts: 10_050, frontends: 10_120, endpoints: 50_000 },
  health: {
    healthy: true,
    nodeEligible: true,
    lastUpdatedMs: NOW - 12_000,
    families: {
      IPv4: { lastUpdatedMs: NOW - 12_000, healthy: true },
      IPv6: { lastUpdatedMs: NOW - 12_000, healthy: true },
    },
    problems: [],
  },
  watches: (['Service', 'EndpointSlice', 'Node', 'ServiceCIDR'] as const).map((kind, i) => ({
    kind,
    source: 'https://10.0.0.1:6443',
    complete: true,
    optional: false,
    lastHeardMs: NOW - 3000 * (i + 1),
    silentMs: 3000 * (i + 1),
    outage: false,
    objects: [10_000, 10_020, 1, 1][i]!,
    lastError: null,
    watches: 1,
    lists: 1,
  })),
  conditions: [],
  repairs: { count: 0, last: null },
  problems: [],
  settings: {
    masqueradeAll: false,
    masqueradeBit: 14,
    dropInvalid: true,
    families: {
      IPv4: {
        detectLocal: { by: 'cidr', cidr: '10.244.0.0/16' },
        nodePortAddresses: ['192.0.2.11'],
        localhostNodePorts: false,
        hostAddresses: [],
        serviceCidrs: [],
      },
      IPv6: {
        detectLocal: null,
        nodePortAddresses: 'all',
        localhostNodePorts: false,
        hostAddresses: [],
        serviceCidrs: [],
      },
    },
  },
  rssBytes: 96_468_992,
};

const ill: Status = {
  ...well,
  verdict: 'unhealthy',
  reasons: ['IPv4 is behind with its syncs', 'the kernel refused 1 Service', 'watch of Node: connect ECONNREFUSED'],
  sync: {
    ...well.sync!,
    failures: 3,
    lastError: 'shop/huge: too many elements',
    lastFailure: { atMs: NOW - 60_000, message: 'shop/huge: too many elements' },
    refused: [{ service: 'shop/huge', family: 'IPv4', message: 'too many elements' }],
  },
  health: {
    ...well.health,
    healthy: false,
    nodeEligible: false,
    families: { ...well.health.families, IPv4: { lastUpdatedMs: NOW - 90_000, healthy: false } },
  },
  watches: well.watches.map((w) =>
    w.kind === 'Node' ? { ...w, complete: false, lastHeardMs: null, lastError: 'connect ECONNREFUSED' } : w,
  ),
  conditions: [{ name: 'KubeProxyRunning', message: 'kube-proxy is at work here too' }],
  repairs: { count: 2, last: { atMs: NOW - 300_000, description: 'IPv4 table missing', culprit: 'nft (4242)' } },
  problems: [
    { object: 'Service shop/bad', field: 'spec.clusterIP', message: '"300.1.1.1" is no IP address' },
    {
      object: 'EndpointSlice shop/web-1',
      field: 'endpoints[5].addresses',
      message: '127.0.0.1 is loopback and cannot be an endpoint',
    },
    { object: 'Service shop/odd', field: '', message: `has a \u001b[31mred name` },
  ],
};

const starting: Status = {
  ...well,
  verdict: 'starting',
  reasons: ['waiting for the first list of Node'],
  families: [],
  sync: null,
  settings: null,
  health: { healthy: true, nodeEligible: false, lastUpdatedMs: null, families: {}, problems: [] },
  watches: ill.watches,
};

t.test('as text', async (t) => {
  golden(t, 'status-healthy.txt', statusText(well, plainStyle));
  golden(t, 'status-unhealthy.txt', statusText(ill, plainStyle));
  golden(t, 'status-starting.txt', statusText(starting, plainStyle));
});

t.test('on a terminal nothing but the look differs', async (t) => {
  const coloured = statusText(ill, styleFor({ isTTY: true }, {}));
  t.match(coloured, '\u001b[31munhealthy\u001b[39m');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what colours are
  t.equal(coloured.replace(/\u001b\[\d+m/g, ''), statusText(ill, plainStyle));
});

t.test('verdicts', async (t) => {
  const of = (change: Partial<Status>) => judge({ ...well, ...change });
  t.same(of({}), { verdict: 'healthy', reasons: [] });
  t.same(of({ problems: ill.problems }), { verdict: 'healthy', reasons: [] }, 'a broken object is not the agent');
  t.same(of({ sync: null }), { verdict: 'starting', reasons: [] });
  t.equal(of({ sync: { ...well.sync!, lastSyncMs: null } }).verdict, 'starting');
  t.match(of({ sync: null, watches: ill.watches }), {
    verdict: 'starting',
    reasons: ['waiting for the first list of Node', 'watch of Node: connect ECONNREFUSED'],
  });
  t.same(of({ sync: { ...well.sync!, lastError: 'no memory' } }), {
    verdict: 'degraded',
    reasons: ['the last sync failed: no memory'],
  });
  t.same(of({ sync: ill.sync }), { verdict: 'degraded', reasons: ['the kernel refused 1 Service'] });
  t.same(of({ conditions: ill.conditions }), {
    verdict: 'degraded',
    reasons: ['KubeProxyRunning: kube-proxy is at work here too'],
  });
  t.match(of({ health: ill.health }), { verdict: 'unhealthy', reasons: ['IPv4 is behind with its syncs'] });
});
