// Connection tracking and the OOM score: what is written, what is left alone, and what a refusal says.
import { availableParallelism } from 'node:os';
import t from 'tap';
import { hostCpus, setConntrack, setOomScore } from '../agent/kernel-settings.ts';
import type { LogFields } from '../agent/log.ts';
import type { SysctlFiles } from '../native/sysctl.ts';

const NET = '/proc/sys/net/netfilter/';
const HASH = '/sys/module/nf_conntrack/parameters/hashsize';
const HOUR = 3_600_000;

const KERNEL: Record<string, string> = {
  [`${NET}nf_conntrack_max`]: '262144\n',
  [`${NET}nf_conntrack_tcp_timeout_established`]: '432000\n',
  [`${NET}nf_conntrack_tcp_timeout_close_wait`]: '3600\n',
  [`${NET}nf_conntrack_tcp_be_liberal`]: '0\n',
  [`${NET}nf_conntrack_udp_timeout`]: '30\n',
  [`${NET}nf_conntrack_udp_timeout_stream`]: '120\n',
  [HASH]: '65536\n',
  '/proc/self/oom_score_adj': '0\n',
  '/sys/devices/system/cpu/online': '0-2,5\n',
};

const DEFAULTS = {
  maxPerCore: 32768,
  min: 131072,
  tcpEstablishedTimeoutMs: 24 * HOUR,
  tcpCloseWaitTimeoutMs: HOUR,
  tcpBeLiberal: false,
  udpTimeoutMs: 0,
  udpStreamTimeoutMs: 0,
};

const code = (name: string, text: string): Error => Object.assign(new Error(`${name}: ${text}`), { code: name });

function kernel(changes: Record<string, string> = {}, refuse: Record<string, Error> = {}) {
  const content: Record<string, string> = { ...KERNEL, ...changes };
  const written: string[] = [];
  const files: SysctlFiles = {
    read: (file) => {
      if (content[file] === undefined) throw code('ENOENT', 'no such file or directory');
      return content[file];
    },
    write: (file, value) => {
      if (refuse[file] !== undefined) throw refuse[file];
      written.push(`${file.replace(NET, '')}=${value}`);
      content[file] = value;
    },
  };
  const logged: { msg: string; fields: LogFields | undefined }[] = [];
  const write = (msg: string, fields?: LogFields): void => void logged.push({ msg, fields });
  return { files, written, logged, log: { error: write, warn: write, info: write, debug: write } };
}

t.test('what differs is written, and nothing a second time', async (t) => {
  const { files, written, log, logged } = kernel();
  setConntrack({ conntrack: DEFAULTS, files, log, cpus: 16 });
  t.strictSame(written, ['nf_conntrack_max=524288', 'nf_conntrack_tcp_timeout_established=86400', `${HASH}=131072`]);
  t.match(logged[0], { fields: { name: 'net.netfilter.nf_conntrack_max', from: '262144', to: '524288' } });
  setConntrack({ conntrack: DEFAULTS, files, log, cpus: 16 });
  t.equal(written.length, 3, 'a start that finds all as it should be writes nothing (P-6)');
});

t.test('the CPUs are those of the host', async (t) => {
  const { files, written, log } = kernel();
  t.equal(hostCpus(files), 4);
  setConntrack({ conntrack: { ...DEFAULTS, min: 0 }, files, log });
  t.ok(written.includes('nf_conntrack_max=131072'), written.join());
  t.equal(
    hostCpus({ ...files, read: () => '' }),
    availableParallelism(),
    'without a topology, those this process may use',
  );
});

t.test('zero leaves the kernel alone; a large enough hash table too', async (t) => {
  const { files, written, log } = kernel();
  const conntrack = { ...DEFAULTS, maxPerCore: 0, tcpEstablishedTimeoutMs: 0, tcpCloseWaitTimeoutMs: 0 };
  setConntrack({ conntrack, files, log, cpus: 1000 });
  t.strictSame(written, []);
  setConntrack({ conntrack: { ...conntrack, maxPerCore: 1, min: 262147 }, files, log, cpus: 1 });
  t.strictSame(written, ['nf_conntrack_max=262147'], 'hash size is compared with max / 4, whole buckets');
});

t.test('timeouts are whole seconds; liberal is set and never reset', async (t) => {
  const { files, written, log } = kernel();
  const times = { tcpCloseWaitTimeoutMs: 1999, udpTimeoutMs: 999, udpStreamTimeoutMs: 60_000, tcpBeLiberal: true };
  setConntrack({ conntrack: { ...DEFAULTS, maxPerCore: 0, ...times }, files, log });
  t.strictSame(written, [
    'nf_conntrack_tcp_timeout_established=86400',
    'nf_conntrack_tcp_timeout_close_wait=1',
    'nf_conntrack_tcp_be_liberal=1',
    'nf_conntrack_udp_timeout_stream=60',
  ]);
  setConntrack({ conntrack: { ...DEFAULTS, maxPerCore: 0 }, files, log });
  t.equal(files.read(`${NET}nf_conntrack_tcp_be_liberal`), '1');
});

t.test('a refusal names setting, value, field and what to do', async (t) => {
  const readOnly = code('EROFS', 'read-only file system');
  const cases: [name: string, machine: ReturnType<typeof kernel>, message: RegExp][] = [
    [
      'read-only /proc/sys',
      kernel({}, { [`${NET}nf_conntrack_max`]: readOnly }),
      /^cannot set net\.netfilter\.nf_conntrack_max to 524288 \(it is 262144\), which conntrack\.maxPerCore and .*EROFS: read-only file system; run kubeplumb --init-only .* leave it alone with conntrack\.maxPerCore: 0$/,
    ],
    [
      'read-only /sys',
      kernel({}, { [HASH]: readOnly }),
      /^cannot set .*hashsize to 131072 \(it is 65536\), .*--init-only/,
    ],
    [
      'no connection tracking',
      {
        ...kernel(),
        files: {
          read: () => {
            throw code('ENOENT', 'no such file or directory');
          },
          write: () => {},
        },
      },
      /^cannot read net\.netfilter\.nf_conntrack_max, .*ENOENT.*nf_conntrack loaded\?/,
    ],
  ];
  for (const [name, { files, log }, message] of cases)
    t.throws(() => setConntrack({ conntrack: DEFAULTS, files, log, cpus: 16 }), { message }, name);
});

t.test('the OOM score is written if it differs; a refusal is only told', async (t) => {
  const { files, written, log, logged } = kernel();
  setOomScore(-999, { files, log });
  setOomScore(-999, { files, log });
  t.strictSame(written, ['/proc/self/oom_score_adj=-999']);
  const other = kernel({}, { '/proc/self/oom_score_adj': code('EACCES', 'permission denied') });
  setOomScore(-999, other);
  t.match(other.logged, [{ msg: /cannot set the OOM score/, fields: { score: -999 } }]);
  t.equal(logged.length, 0);
});
