// The text of ipvs mode: as ipvsadm and ip print it, in their order. Where the kernel has IPVS, ipvsadm is asked again.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { addressesText, dumpParts, type ListedServer, serverText, viewOf } from '../../../backends/ipvs/dump-text.ts';
import { serviceObjects } from '../../../backends/ipvs/service-objects.ts';
import { familyOf } from '../../../native/ip.ts';
import type { RealServer, TransportProtocol, VirtualServer } from '../../../native/ipvs/objects.ts';
import { enterNamespace } from '../../support/own-namespace.ts';
import { endpoint, portPlan, SETTINGS, servicePlan } from '../../support/plans.ts';

/** As ipvsadm 1.31 printed them on Linux 6.1 after these virtual servers had been added in another order. */
const RECORDED = readFileSync(new URL('../../golden/ipvs/ipvsadm-save.txt', import.meta.url), 'utf8');

function listed(
  protocol: TransportProtocol,
  ip: string,
  port: number,
  more: Partial<VirtualServer> = {},
  realServers: readonly [string, number, number][] = [],
): ListedServer {
  const server = { family: familyOf(ip), protocol, ip, port, scheduler: 'rr', flags: 0, timeoutSeconds: 0, ...more };
  const real = ([realIp, realPort, weight]: [string, number, number]): RealServer => ({
    ip: realIp,
    port: realPort,
    weight,
  });
  return { server, realServers: realServers.map((r) => real([...r])) };
}

/** Flags as the kernel tells them, `hashed` included in one. */
const SERVERS: readonly ListedServer[] = [
  listed('UDP', '10.96.0.10', 53),
  listed('TCP', '10.96.0.2', 443, { flags: 1, timeoutSeconds: 10_800 }),
  listed('TCP', '10.96.0.1', 80, { flags: 2 }, [
    ['10.244.0.12', 8080, 1],
    ['10.244.0.2', 8080, 0],
    ['10.244.0.2', 808, 1],
  ]),
  listed('TCP', '10.96.0.1', 8080, { scheduler: 'sh', flags: 0x18 }),
  listed('TCP', '10.96.0.11', 8080, { scheduler: 'mh', flags: 0x8 }),
  listed('TCP', '10.96.0.12', 8080, { scheduler: 'mh', flags: 0x10 }),
  listed('TCP', '10.96.0.13', 8080, { scheduler: 'lc', flags: 0x38 }),
  listed('SCTP', '10.96.0.3', 3868, { scheduler: 'wlc' }, [['10.244.0.2', 3868, 1]]),
  listed('TCP', 'fd00:10:96::2', 80, { flags: 1, timeoutSeconds: 300 }, [['fd00:10:244::2', 8080, 1]]),
  listed('UDP', 'fd00:10:96::a', 53, { flags: 4 }),
  listed('SCTP', 'fd00:10:96::a', 53),
  listed('TCP', '9.96.0.1', 80),
  listed('TCP', '10.96.0.20', 80, { scheduler: 'sh', flags: 0x11, timeoutSeconds: 60 }),
  listed('TCP', '10.96.0.21', 80, { scheduler: 'mh', flags: 0x11, timeoutSeconds: 60 }),
  listed('UDP', '10.96.0.22', 80, { scheduler: 'sh', flags: 0x14 }),
];

const textOf = (...args: Parameters<typeof dumpParts>): string => [...dumpParts(...args)].join('');

const inNamespace = await enterNamespace(t);

t.test('virtual and real servers as ipvsadm prints them', async (t) => {
  t.equal(textOf({ servers: SERVERS, addresses: null }, []), RECORDED);
  t.equal(textOf({ servers: [...SERVERS].reverse(), addresses: [] }, []), RECORDED);
});

t.test('addresses as ip prints them', async (t) => {
  const recorded = 'kube-ipvs0       DOWN           10.96.0.1/32 9.96.0.1/32 fd00:10:96::2/128 fd00:10:96::a/128 \n';
  t.equal(addressesText(['10.96.0.1', '9.96.0.1', 'fd00:10:96::2', 'fd00:10:96::a']), recorded);
  t.equal(addressesText([]), 'kube-ipvs0       DOWN           \n');
});

t.test('the parts: servers, addresses in order, tables', async (t) => {
  const servers = [listed('TCP', '10.96.0.1', 80)];
  const addresses = ['fd00::1', '10.96.0.10', '9.96.0.1'];
  t.equal(
    textOf({ servers, addresses }, ['table ip kubeplumb-ipvs {\n', '}\n']),
    `-A -t 10.96.0.1:80 -s rr

kube-ipvs0       DOWN           9.96.0.1/32 10.96.0.10/32 fd00::1/128${' '}

table ip kubeplumb-ipvs {
}
`,
  );
  t.equal(textOf({ servers: [], addresses: null }, ['table\n']), 'table\n');
  t.equal(textOf({ servers: [], addresses: [] }, []), '');
});

t.test('many virtual servers come in several parts, none lost', async (t) => {
  const servers = Array.from({ length: 1700 }, (_, i) => listed('TCP', `10.96.${i >> 8}.${i & 255}`, 80));
  const parts = [...dumpParts({ servers, addresses: null }, [])];
  t.equal(parts.length, 4);
  t.equal(parts.join(''), servers.map(serverText).join(''));
});

t.test('one Service alone', async (t) => {
  const plan = servicePlan('web', [portPlan({ cluster: [endpoint('10.128.4.7')] })]);
  const own = serviceObjects(plan, SETTINGS, { scheduler: 'rr' });
  const servers = [
    listed('TCP', '10.96.0.1', 80, {}, [['10.128.4.9', 8080, 0]]),
    listed('UDP', '10.96.0.1', 80),
    listed('TCP', '10.96.0.2', 80),
  ];
  t.equal(
    textOf(viewOf({ servers, addresses: ['10.96.0.1', '10.96.0.2'] }, [own]), []),
    `-A -t 10.96.0.1:80 -s rr
-a -t 10.96.0.1:80 -r 10.128.4.9:8080 -m -w 0

kube-ipvs0       DOWN           10.96.0.1/32${' '}
`,
  );
  t.equal(textOf(viewOf({ servers, addresses: null }, []), []), '');
});

const ipvsadm = (args: string[], input = '') => spawnSync('ipvsadm', args, { input, encoding: 'utf8' });

if (inNamespace) {
  const { error, status } = ipvsadm(['-L', '-n']);
  const skip = error ? 'no ipvsadm' : status !== 0 ? 'the kernel has no IPVS' : false;
  t.test('ipvsadm takes the text and prints the same', { skip }, async (t) => {
    const text = textOf({ servers: [...SERVERS].reverse(), addresses: null }, []);
    t.equal(ipvsadm(['-R'], text).stderr, '');
    t.equal(ipvsadm(['-S', '-n']).stdout, text);
  });
}
