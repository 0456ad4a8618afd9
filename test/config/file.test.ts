import t from 'tap';
import { API_VERSION, decodeFile, KIND } from '../../agent/config/file.ts';
import { ConfigError } from '../../agent/config/types.ts';

const HEAD = `apiVersion: ${API_VERSION}\nkind: ${KIND}\n`;

function problemsOf(text: string): readonly string[] {
  try {
    decodeFile(text, 'f');
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

t.test('YAML and JSON give the same fields', async (t) => {
  const yaml = decodeFile(`${HEAD}mode: nftables\nnftables:\n  syncPeriod: 10s\nnodePortAddresses: [primary]\n`, 'f');
  const json = decodeFile(
    `{"apiVersion":"${API_VERSION}",\n\t"kind":"${KIND}",\n\t"mode":"nftables","nftables":{"syncPeriod":"10s"},` +
      '"nodePortAddresses":["primary"]}',
    'f',
  );
  t.same(yaml.fields, { mode: 'nftables', nftables: { syncPeriod: 10_000 }, nodePortAddresses: ['primary'] });
  t.same(json, yaml);
  t.same(yaml.warnings, []);
});

t.test('unknown and duplicate fields are warned about by name, the last duplicate counts', async (t) => {
  const { fields, warnings } = decodeFile(
    `${HEAD}mode: ipvs\nmode: nftables\nMode: x\niptables: {masqueradeBit: 1, masqueradeBit: 2, other: 3}\n---\nmode: ipvs\n`,
    'f',
  );
  t.same(fields, { mode: 'nftables', iptables: { masqueradeBit: 2 } });
  t.same(warnings.sort(), [
    'f: field iptables.masqueradeBit is given more than once; the last one is used',
    'f: field mode is given more than once; the last one is used',
    'f: only the first YAML document of the file is used',
    'f: unknown field Mode is ignored',
    'f: unknown field iptables.other is ignored',
  ]);
});

t.test('null is as good as absent; YAML 1.1 booleans are understood', async (t) => {
  const { fields } = decodeFile(`${HEAD}nodePortAddresses: null\niptables:\nbindAddressHardFail: yes\n`, 'f');
  t.same(fields, { bindAddressHardFail: true });
});

const WRONG: [name: string, text: string, problem: RegExp][] = [
  ['a string for a number', 'oomScoreAdj: "5"', /^f: oomScoreAdj: "5" must be a whole number/],
  ['a fraction for a number', 'oomScoreAdj: 1.5', /^f: oomScoreAdj: 1.5 /],
  ['a number out of 32 bits', 'conntrack: {min: 99999999999}', /^f: conntrack.min: 99999999999 /],
  ['a number for a string', 'bindAddress: 5', /^f: bindAddress: 5 must be a string/],
  ['a number for a version', 'showHiddenMetricsForVersion: 1.35', /^f: showHiddenMetricsForVersion: 1.35 /],
  ['a string for a boolean', 'enableProfiling: "true"', /^f: enableProfiling: "true" must be true or false/],
  ['a number for a duration', 'iptables: {syncPeriod: 30}', /^f: iptables.syncPeriod: 30 must be a duration/],
  ['a duration without unit', 'configSyncPeriod: "30"', /^f: configSyncPeriod: "30" must be a duration/],
  ['a scalar for a section', 'ipvs: 5', /^f: ipvs: 5 must be an object/],
  ['a list for a section', 'ipvs: []', /^f: ipvs: \[\] must be an object/],
  ['a scalar for a list', 'nodePortAddresses: 192.0.2.0/24', /^f: nodePortAddresses: .* must be a list of strings/],
  ['a list with a number', 'nodePortAddresses: [1]', /^f: nodePortAddresses: \[1\] must be a list of strings/],
  ['a gate that is no boolean', 'featureGates: {AllAlpha: 1}', /^f: featureGates: .* map of names to true or false/],
  ['a bad vmodule', 'logging: {vmodule: [5]}', /^f: logging.vmodule\[0\]: 5 must be an object/],
  ['a bad quantity', 'logging: {options: {text: {infoBufferSize: 4x}}}', /^f: logging.options.text.infoBufferSize: /],
];

t.test('wrong types are errors that name the field', async (t) => {
  for (const [name, text, problem] of WRONG) {
    const problems = problemsOf(HEAD + text);
    t.equal(problems.length, 1, name);
    t.match(problems[0], problem, name);
  }
});

t.test('all wrong types are reported together', async (t) => {
  t.equal(problemsOf(`${HEAD}oomScoreAdj: x\nmode: 1\nipvs: {scheduler: 2}\n`).length, 3);
});

t.test('what is no configuration is refused with the reason', async (t) => {
  t.match(problemsOf(''), [/^f: is /]);
  t.match(problemsOf('just text'), [/^f: is no KubeProxyConfiguration/]);
  t.match(problemsOf(`kind: ${KIND}\napiVersion: kubeproxy.config.k8s.io/v1beta1`), [/v1beta1.*v1alpha1/]);
  t.match(problemsOf(`apiVersion: ${API_VERSION}\nkind: KubeletConfiguration`), [/"KubeletConfiguration"/]);
  t.match(problemsOf(`${HEAD}mode: [`), [/^f: .*line 3/s]);
  t.match(problemsOf(`${HEAD}mode: x\n  bad: indent`), [/^f: /]);
});
