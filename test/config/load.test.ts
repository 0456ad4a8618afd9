import t from 'tap';
import { API_VERSION, KIND } from '../../agent/config/file.ts';
import { loadConfig } from '../../agent/config/load.ts';
import type { Config } from '../../agent/config/types.ts';

function load(argv: string[], file: Record<string, unknown> = {}): { config: Config; warnings: readonly string[] } {
  const text = JSON.stringify({ apiVersion: API_VERSION, kind: KIND, ...file });
  const loaded = loadConfig({ argv, readFile: () => text });
  if (loaded.action !== 'run') throw new Error(`action ${loaded.action}`);
  return loaded;
}

t.test('with a file, flags besides a few are ignored with a note', async (t) => {
  const { config, warnings } = load(
    ['--config=c', '--proxy-mode=ipvs', '--hostname-override=Node-1', '--master=http://x', '-v', '4', '--profiling'],
    { mode: 'nftables', logging: { verbosity: 1, format: 'text', vmodule: [{ filePattern: 'a', verbosity: 2 }] } },
  );
  t.equal(config.mode, 'nftables');
  t.equal(config.hostnameOverride, 'Node-1');
  t.equal(config.master, 'http://x');
  t.equal(config.logging.verbosity, 4);
  t.equal(config.profiling, false);
  t.same(warnings, [
    'flag --profiling is ignored because --config is given',
    'flag --proxy-mode is ignored because --config is given',
    'field logging.vmodule has no effect: the verbosity holds for the whole agent',
  ]);
});

t.test('vmodule of flag and file are merged, the flag first', async (t) => {
  const { config } = load(['--config=c', '--vmodule=b=5,c=6'], {
    logging: { vmodule: [{ filePattern: 'a', verbosity: 2 }] },
  });
  t.same(
    config.logging.vmodule.map((m) => m.filePattern),
    ['b', 'c', 'a'],
  );
});

t.test('--kubeconfig is used when the file names none, otherwise ignored with a note', async (t) => {
  const used = load(['--kubeconfig', '/k', '--config', 'c']);
  t.equal(used.config.kubeconfig, '/k');
  t.same(used.warnings, []);
  const ignored = load(['--kubeconfig', '/k', '--config', 'c'], { clientConnection: { kubeconfig: '/f' } });
  t.equal(ignored.config.kubeconfig, '/f');
  t.same(ignored.warnings, ['flag --kubeconfig is ignored because --config is given']);
});

t.test('an empty --hostname-override leaves that of the file', async (t) => {
  t.equal(load(['--config=c', '--hostname-override='], { hostnameOverride: 'a' }).config.hostnameOverride, 'a');
});

t.test('whether the minimum sync period was chosen is remembered', async (t) => {
  const cases: [argv: string[], file: Record<string, unknown>, ms: number, explicit: boolean][] = [
    [[], {}, 1000, false],
    [['--iptables-min-sync-period=0'], {}, 0, true],
    [['--proxy-mode=nftables', '--iptables-min-sync-period=1s'], {}, 1000, true],
    [['--proxy-mode=nftables', '--ipvs-min-sync-period=5s'], {}, 1000, false],
    [['--proxy-mode=ipvs'], {}, 1000, false],
    [['--config=c'], { mode: 'nftables' }, 1000, false],
    [['--config=c'], { mode: 'nftables', nftables: { minSyncPeriod: '0s' } }, 1000, false],
    [['--config=c'], { mode: 'nftables', nftables: { minSyncPeriod: '1s' } }, 1000, true],
    [['--config=c'], { mode: 'nftables', iptables: { minSyncPeriod: '5s' } }, 1000, false],
    [['--config=c'], { mode: 'ipvs' }, 0, false],
  ];
  for (const [argv, file, ms, explicit] of cases) {
    const { config } = load(argv, file);
    const name = `${argv.join(' ')} ${JSON.stringify(file)}`;
    t.equal(config.minSyncPeriodMs, ms, name);
    t.equal(config.minSyncPeriodExplicit, explicit, name);
  }
});

t.test('the sync flags of iptables serve nftables, --masquerade-all all modes, the mark bit two', async (t) => {
  const flags = [
    '--iptables-sync-period=9s',
    '--ipvs-sync-period=8s',
    '--masquerade-all',
    '--iptables-masquerade-bit=3',
  ];
  const of = (mode: string) => load([`--proxy-mode=${mode}`, ...flags]).config;
  t.same(
    (['iptables', 'ipvs', 'nftables'] as const).map(of).map((c) => [c.syncPeriodMs, c.masqueradeAll, c.masqueradeBit]),
    [
      [9000, true, 3],
      [8000, true, 3],
      [9000, true, 14],
    ],
  );
});

t.test('an empty address flag leaves the default in force', async (t) => {
  const { config } = load(['--bind-address=', '--healthz-bind-address=', '--metrics-bind-address=']);
  t.equal(config.bindAddress, '0.0.0.0');
  t.equal(config.healthzBindAddress, '0.0.0.0:10256');
  t.equal(config.metricsBindAddress, '127.0.0.1:10249');
});

t.test('bindAddress in a file moves the servers to IPv6', async (t) => {
  const { config } = load(['--config=c'], { bindAddress: '::' });
  t.equal(config.healthzBindAddress, '[::]:10256');
  t.equal(config.metricsBindAddress, '[::1]:10249');
});

t.test('CIDRs come out as network addresses', async (t) => {
  const { config } = load(['--cluster-cidr=10.128.5.0/14', '--nodeport-addresses=192.0.2.11/24,fd00::1/64']);
  t.same(config.clusterCidrs, ['10.128.0.0/14']);
  t.same(config.nodePortAddresses, ['192.0.2.0/24', 'fd00::/64']);
});

t.test('flags that exist here only', async (t) => {
  const { config } = load(['--manifests', 'a,b', '--manifests=c', '--socket=/s', '--config=x']);
  t.same(config.manifests, ['a,b', 'c']);
  t.equal(config.socket, '/s');
  t.equal(load([]).config.socket, '/run/kubeplumb/agent.sock');
});

t.test('fields and flags without effect are warned about', async (t) => {
  t.same(load(['--config=c'], { winkernel: { networkName: 'n', enableDSR: false }, portRange: '1-2' }).warnings, [
    'field portRange has no effect: no ports are opened for Services',
    'field winkernel.networkName has no effect: this is Linux',
  ]);
  t.same(load(['--healthz-port=1', '--boot-id-file=/b']).warnings, [
    'flag --boot-id-file has no effect',
    'flag --healthz-port is deprecated, give the port in --healthz-bind-address',
  ]);
});

t.test('a file that cannot be read is a problem of --config', async (t) => {
  const readFile = () => {
    throw new Error('ENOENT: no such file');
  };
  t.throws(() => loadConfig({ argv: ['--config=/no'], readFile }), { message: '--config: ENOENT: no such file' });
});

t.test('whether the log format was chosen is remembered', async (t) => {
  t.equal(load([]).config.logging.formatChosen, false);
  t.equal(load(['--config=c'], { logging: { verbosity: 0 } }).config.logging.formatChosen, false);
  t.equal(load(['--config=c'], { logging: { format: 'text' } }).config.logging.formatChosen, true);
  t.equal(load(['--config=c', '--logging-format=text']).config.logging.formatChosen, true);
});

t.test('API servers: the flag is repeatable, the environment takes its place', async (t) => {
  const servers = (argv: string[], env: Record<string, string> = {}): string[] => {
    const loaded = loadConfig({ argv, readFile: () => '', env });
    if (loaded.action !== 'run') throw new Error(loaded.action);
    return loaded.config.apiServers;
  };
  t.strictSame(servers([]), []);
  const flags = ['--apiserver=https://a:6443', '--apiserver', 'b:8080'];
  t.strictSame(servers(flags), ['https://a:6443', 'b:8080']);
  t.strictSame(servers(flags, { KUBEPLUMB_APISERVER: ' https://c , https://d,' }), ['https://c', 'https://d']);
  t.strictSame(servers(flags, { KUBEPLUMB_APISERVER: '' }), ['https://a:6443', 'b:8080']);
  t.throws(() => servers(['--apiserver=ftp://a']), { message: '--apiserver: "ftp://a" must be an http or https URL' });
  t.throws(() => servers([], { KUBEPLUMB_APISERVER: 'ftp://a' }), {
    message: /^KUBEPLUMB_APISERVER: "ftp:\/\/a" must/,
  });
});
