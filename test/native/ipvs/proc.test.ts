// /proc/net/ip_vs as kernels wrote it, for the virtual servers that these commands made:
//   -A -t 10.96.0.1:80 -s rr -p 10800              -a … -r 10.244.0.2:8080 -m -w 1, -r 10.244.1.3:8080 -m -w 0
//   -A -u 10.96.0.10:53 -s wlc -o                  -a … -r 10.244.0.9:53 -m -w 65535
//   -A --sctp-service 10.96.0.11:3868 -s mh -b mh-fallback,mh-port    -a … -r 10.244.0.12:3868 -m -w 1
//   -A -t [fd00:96::1]:443 -s sh -b sh-port -p 60 -M 64
//                                      -a … -r [fd00:10:244::2]:8443 -m -w 1, -r [fd00:10:244::3]:8443 -g -w 2
//   -A -t 10.96.0.20:80 -s lc; -A -t 192.0.2.1:0 -s rr -p 60      -a … -r 127.0.0.1:0 -m -w 1
//   -A -f 7 -s rr; -A -f 8 -6 -s rr -p 300         -a … -r 10.244.0.30 -g -w 1; -r [fd00::30]:80 -g -w 1
import { readFileSync } from 'node:fs';
import t from 'tap';
import { parseRealServers } from '../../../native/ipvs/proc.ts';

const idle = (ip: string, port: number, weight: number) => ({ ip, port, weight, active: 0, inactive: 0 });

const EXPECTED = {
  'SCTP 10.96.0.11:3868': [idle('10.244.0.12', 3868, 1)],
  'TCP 10.96.0.1:80': [idle('10.244.1.3', 8080, 0), idle('10.244.0.2', 8080, 1)],
  'TCP 10.96.0.20:80': [],
  'TCP 192.0.2.1:0': [idle('127.0.0.1', 0, 1)],
  // Routed real servers have the port of their virtual server.
  'TCP [fd00:96::1]:443': [idle('fd00:10:244::3', 443, 2), idle('fd00:10:244::2', 8443, 1)],
  'UDP 10.96.0.10:53': [idle('10.244.0.9', 53, 65535)],
};

for (const kernel of ['6.1', '7.3']) {
  t.test(`kernel ${kernel}`, async (t) => {
    const found = parseRealServers(readFileSync(new URL(`proc/${kernel}.txt`, import.meta.url), 'latin1'));
    t.strictSame(Object.fromEntries([...found].sort(([a], [b]) => (a < b ? -1 : 1))), EXPECTED);
  });
}

t.test('connections', async (t) => {
  const text = 'TCP  0A600001:0050 rr  \n  -> 0AF40002:1F90      Masq    0      12         123456    \n';
  t.strictSame(
    [...parseRealServers(text)],
    [['TCP 10.96.0.1:80', [{ ip: '10.244.0.2', port: 8080, weight: 0, active: 12, inactive: 123456 }]]],
  );
});

t.test('what comes twice is merged', async (t) => {
  const text = `TCP  0A600001:0050 rr
  -> 0AF40002:1F90      Masq    1      0          0
  -> 0AF40003:1F90      Masq    1      0          0
UDP  0A600001:0050 rr
TCP  0A600001:0050 rr
  -> 0AF40003:1F90      Masq    1      0          0
  -> 0AF40004:1F90      Masq    1      0          0
`;
  const found = parseRealServers(text);
  t.strictSame([...found.keys()], ['TCP 10.96.0.1:80', 'UDP 10.96.0.1:80']);
  t.strictSame(
    found.get('TCP 10.96.0.1:80')!.map(({ ip }) => ip),
    ['10.244.0.2', '10.244.0.3', '10.244.0.4'],
  );
});

t.test('nothing', async (t) => {
  t.equal(parseRealServers('').size, 0);
  t.equal(parseRealServers('IP Virtual Server version 1.2.1 (size=4096)\n').size, 0);
});

t.test('lines that cannot be read are named', async (t) => {
  const head = 'TCP  0A600001:0050 rr\n';
  const cases = [
    ['TCP  0A6000:0050 rr\n', 1, 'virtual server'],
    ['TCP  [fd00::1]:0050 rr\n', 1, 'virtual server'],
    ['UDP \n', 1, 'virtual server'],
    [`${head}  -> 0AF40002:1F90      Masq    1      0\n`, 2, 'real server'],
    [`${head}  -> 0AF40002      Masq    1      0   0\n`, 2, 'real server'],
    [`${head}  -> 0AF40002:1F90      Masq    -1      0   0\n`, 2, 'real server'],
  ] as const;
  for (const [text, line, what] of cases) {
    const message = new RegExp(`ip_vs, line ${line}: ".*" is no ${what}$`);
    t.throws(() => parseRealServers(text), { name: 'RangeError', message }, text);
  }
});
