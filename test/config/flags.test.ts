import t from 'tap';
import { FLAGS } from '../../agent/config/flag-table.ts';
import { parseFlags } from '../../agent/config/flags.ts';
import { loadConfig } from '../../agent/config/load.ts';
import { ConfigError } from '../../agent/config/types.ts';

function values(...argv: string[]): Record<string, unknown> {
  const parsed = parseFlags(argv);
  if (parsed.action !== 'run') throw new Error(`action ${parsed.action}`);
  return Object.fromEntries(parsed.given.map(({ flag, value }) => [flag.name, value]));
}

function problems(...argv: string[]): readonly string[] {
  try {
    parseFlags(argv);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

const GOOD: [argv: string[], values: Record<string, unknown>][] = [
  [[], {}],
  [['--proxy_mode=nftables'], { 'proxy-mode': 'nftables' }],
  [['--pod_interface_name_prefix', 'a_b'], { 'pod-interface-name-prefix': 'a_b' }],
  [['--cleanup'], { cleanup: true }],
  [['--cleanup=false'], { cleanup: false }],
  [['--cleanup=T', '--profiling'], { cleanup: true, profiling: true }],
  [['-v=3'], { v: 3 }],
  [['-v', '4'], { v: 4 }],
  [['--v=5'], { v: 5 }],
  [['--oom-score-adj', '-5'], { 'oom-score-adj': -5 }],
  [['--conntrack-min=0x10'], { 'conntrack-min': 16 }],
  [['--kube-api-qps=2.5'], { 'kube-api-qps': 2.5 }],
  [['--ipvs-exclude-cidrs=a,b', '--ipvs-exclude-cidrs=c'], { 'ipvs-exclude-cidrs': ['a', 'b', 'c'] }],
  [['--nodeport-addresses='], { 'nodeport-addresses': [] }],
  [['--proxy-mode=a', '--proxy-mode=b'], { 'proxy-mode': 'b' }],
  [['--feature-gates=A=true', '--feature-gates=B=false,A=false'], { 'feature-gates': { A: false, B: false } }],
  [['--healthz-bind-address=[::1]:5'], { 'healthz-bind-address': '[::1]:5' }],
  [['--metrics-bind-address=::'], { 'metrics-bind-address': '::' }],
  [['--cluster-cidr='], { 'cluster-cidr': '' }],
];

t.test('values are read as kube-proxy reads them', async (t) => {
  for (const [argv, expected] of GOOD) t.same(values(...argv), expected, argv.join(' ') || 'no flags');
});

const BAD: [argv: string[], problem: RegExp][] = [
  [['--nope'], /--nope/],
  [['extra'], /extra/],
  [['--cleanup', 'false'], /false/],
  [['--kubeconfig'], /--kubeconfig/],
  [['--cleanup=maybe'], /^--cleanup: "maybe" must be true or false$/],
  [['--oom-score-adj=abc'], /^--oom-score-adj: "abc" must be a whole number/],
  [['--oom-score-adj=3000000000'], /^--oom-score-adj/],
  [['--v=-1'], /^--v: "-1" .* not negative/],
  [['--kube-api-qps='], /^--kube-api-qps: "" must be a number/],
  [['--iptables-sync-period=5'], /^--iptables-sync-period: "5" must be a duration/],
  [['--bind-address=host'], /^--bind-address: "host" must be an IP address/],
  [['--healthz-bind-address=localhost:1'], /^--healthz-bind-address: "localhost:1" must be an IP or IP:port/],
  [['--vmodule=a=1,b'], /^--vmodule: .* "b" is none/],
  [['--feature-gates=A=x'], /^--feature-gates: "A=x" must be true or false/],
  [['--log-text-info-buffer-size=1x'], /^--log-text-info-buffer-size: "1x" must be a quantity/],
  [['--version=1.2'], /^--version: "1.2" must be true or false/],
];

t.test('wrong flags are refused by name', async (t) => {
  for (const [argv, problem] of BAD) t.match(problems(...argv), [problem], argv.join(' '));
});

t.test('empty arguments, as templates leave them behind, are overlooked', async (t) => {
  t.equal(loadConfig({ argv: ['', '--proxy-mode=nftables', ''], readFile: () => '' }).action, 'run');
});

t.test('all wrong values are reported together', async (t) => {
  t.equal(problems('--oom-score-adj=x', '--cleanup=y', '--bind-address=z').length, 3);
});

t.test('--help lists every flag, --version wins over the rest', async (t) => {
  const readFile = () => '';
  const help = loadConfig({ argv: ['--help'], readFile });
  t.equal(help.action, 'help');
  const text = help.action === 'help' ? help.text : '';
  t.ok(FLAGS.length > 50);
  for (const flag of FLAGS) t.match(text, new RegExp(`--${flag.name}\\b`), flag.name);
  t.same(loadConfig({ argv: ['--version', '--proxy-mode=x'], readFile }), { action: 'version', raw: false });
  t.same(loadConfig({ argv: ['--version=raw'], readFile }), { action: 'version', raw: true });
});
