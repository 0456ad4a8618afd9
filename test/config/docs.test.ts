// docs/configuration.md says of every field what it does: its table is compared with the schema, the defaults and the code.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { withDefaults } from '../../agent/config/defaults.ts';
import { formatDuration } from '../../agent/config/duration.ts';
import { WITHOUT_EFFECT } from '../../agent/config/field-effects.ts';
import { API_VERSION, KIND } from '../../agent/config/file.ts';
import { FLAGS } from '../../agent/config/flag-table.ts';
import { loadConfig } from '../../agent/config/load.ts';
import { type FieldType, SCHEMA, type Section } from '../../agent/config/schema.ts';

const TEXT = readFileSync(join(import.meta.dirname, '../../docs/configuration.md'), 'utf8');

interface Row {
  readonly field: string;
  readonly flag: string;
  readonly default: string;
  readonly effect: string;
}

const ROWS: readonly Row[] = TEXT.split('\n## Every field\n')[1]!
  .split('\n\nFlags without a field')[0]!
  .split('\n')
  .filter((line) => line.startsWith('| `'))
  .map((line) => {
    const [field = '', flag = '', value = '', effect = ''] = line.slice(2, -2).split(' | ');
    const bare = (cell: string): string => cell.replaceAll('`', '').trim();
    return { field: bare(field), flag: bare(flag), default: bare(value), effect };
  });

function leaves(section: Section, path = ''): [field: string, type: FieldType][] {
  return Object.entries(section).flatMap(([name, type]) =>
    typeof type === 'object' && 'section' in type
      ? leaves(type.section, `${path}${name}.`)
      : [[`${path}${name}`, type] as [string, FieldType]],
  );
}

const FIELDS = new Map(leaves(SCHEMA as Section));
const at = (object: unknown, path: string): unknown =>
  path.split('.').reduce((value, name) => (value as Record<string, unknown>)[name], object);

t.test('every field stands in the table once, with its default', async (t) => {
  t.strictSame(ROWS.map(({ field }) => field).sort(), [...FIELDS.keys()].sort());
  const defaults = withDefaults({});
  for (const row of ROWS) {
    const type = FIELDS.get(row.field)!;
    const value = at(defaults, row.field);
    const text = type === 'duration' || type === 'durationOrNumber' ? formatDuration(value as number) : String(value);
    t.equal(row.default, typeof value === 'object' ? '' : text, row.field);
  }
});

t.test('fields without effect are told with the reason that the log gives', async (t) => {
  const told = ROWS.flatMap(({ field, effect }) => {
    const reason = /^\*\*No effect\*\*: (.*)$/.exec(effect)?.[1];
    return reason === undefined ? [] : [[field, reason]];
  });
  t.strictSame(Object.fromEntries(told), { ...WITHOUT_EFFECT });
});

/** A value of its own, as a file has it. */
const VALUES: Partial<Record<string, unknown>> = {
  'clientConnection.contentType': 'application/yaml',
  'logging.vmodule': [{ filePattern: 'a', verbosity: 1 }],
  showHiddenMetricsForVersion: '1.35',
};
const BY_TYPE: Partial<Record<string, unknown>> = {
  string: 'x',
  boolean: true,
  int32: 7,
  float: 7,
  quantity: '64Ki',
  duration: '7m',
  durationOrNumber: '7s',
};

t.test('a field without effect is warned about when it is set, and only then', async (t) => {
  const warnings = (fields: object): readonly string[] => {
    const text = JSON.stringify({ apiVersion: API_VERSION, kind: KIND, ...fields });
    const loaded = loadConfig({ argv: ['--config=c'], readFile: () => text });
    return loaded.action === 'run' ? loaded.warnings : [];
  };
  for (const [field, reason] of Object.entries(WITHOUT_EFFECT)) {
    const nested = (value: unknown): object =>
      field.split('.').reduceRight((inner, name) => ({ [name]: inner }), value) as object;
    const value = VALUES[field] ?? BY_TYPE[FIELDS.get(field) as string];
    const gates = { featureGates: { LoggingAlphaOptions: true } };
    t.strictSame(warnings({ ...gates, ...nested(value) }), [`field ${field} has no effect: ${reason}`]);
    t.strictSame(warnings(nested(at(withDefaults({}), field) === '' ? '' : null)), [], `${field} as it is by default`);
  }
  const gates = { featureGates: { WatchListClient: true, AllowServiceExternalIPs: false, NFTablesProxyMode: true } };
  t.strictSame(warnings(gates), ['field featureGates.WatchListClient has no effect: nothing here depends on it']);
});

t.test('flags: those of the table exist, and none is forgotten', async (t) => {
  const names = new Set(FLAGS.map(({ name }) => (name === 'v' ? '-v' : `--${name}`)));
  for (const { flag, field } of ROWS) t.ok(flag === '' || names.has(flag), `${field}: ${flag}`);
  for (const name of names) t.match(TEXT, new RegExp(`\`${name}[\` ]`), name);
  for (const flag of FLAGS.filter(({ withFile }) => withFile === 'kept'))
    t.not(flag.help, '', `${flag.name} has a help text`);
});
