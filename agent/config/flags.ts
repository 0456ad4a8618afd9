// Splits the command line into flags with kube-proxy's habits: `_` for `-` in names, `--flag` and `--flag=value` for
// booleans, no positional arguments (P-2). Which value goes where is in flag-table.ts.
import { Command, CommanderError, Option } from 'commander';
import { FLAGS, type Flag } from './flag-table.ts';
import { combine, type FlagType, type FlagValues, PARSERS } from './flag-values.ts';
import { ConfigError } from './types.ts';

export type ParsedFlags =
  | { readonly action: 'help'; readonly text: string }
  /** The flags that were given, with their values, in the order of the table. */
  | { readonly action: 'run'; readonly given: readonly { flag: Flag; value: unknown }[] };

/** Reads the arguments after the program's name. Throws ConfigError with one problem per wrong flag. */
export function parseFlags(argv: readonly string[]): ParsedFlags {
  const command = new Command('kubeplumb')
    .description('Programs Services into the kernel of this node, in place of kube-proxy.')
    .usage('[flags]')
    .allowExcessArguments(true)
    .exitOverride()
    .configureOutput({ writeOut: () => {}, writeErr: () => {} });
  const given = new Map<Flag, string[]>();
  for (const flag of FLAGS) {
    const names = flag.name === 'v' ? '-v, --v' : `--${flag.name}`;
    const option = new Option(`${names} ${placeholder(flag)}`, flag.help).helpGroup(flag.group);
    command.addOption(option);
    command.on(`option:${option.name()}`, (text: string) => {
      given.set(flag, [...(given.get(flag) ?? []), text]);
    });
  }
  try {
    command.parse(argv.map(normalise), { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === 'commander.helpDisplayed') return { action: 'help', text: command.helpInformation() + FOOTER };
    throw new ConfigError([error.message.replace(/^error: /, '')], { cause: error });
  }
  // Empty ones are what templates leave behind; kube-proxy overlooks them too.
  const extra = command.args.filter((arg) => arg !== '');
  if (extra.length > 0)
    throw new ConfigError([`too many arguments. Expected 0 arguments but got ${extra.length}: ${extra.join(', ')}.`]);
  const problems: string[] = [];
  const values = FLAGS.filter((flag) => given.has(flag)).map((flag) => ({
    flag,
    value: readValue(flag, given.get(flag)!, problems),
  }));
  if (problems.length > 0) throw new ConfigError(problems);
  return { action: 'run', given: values };
}

function readValue(flag: Flag, texts: readonly string[], problems: string[]): unknown {
  const values: FlagValues[FlagType][] = [];
  for (const text of texts) {
    try {
      values.push(PARSERS[flag.type](text));
    } catch (wanted) {
      problems.push(`--${flag.name}: ${JSON.stringify(text)} ${wanted}`);
    }
  }
  return values.length > 0 ? combine(values) : undefined;
}

const SWITCHES = new Set(FLAGS.filter(isSwitch).map((flag) => `--${flag.name}`));

const PLACEHOLDERS: Partial<Record<FlagType, string>> = {
  string: 'text',
  strings: 'list',
  paths: 'path',
  urls: 'url',
  gates: 'list',
  vmodule: 'list',
  ipPort: 'ip:port',
  uint: 'int',
  float: 'number',
};

const FOOTER = `
Lists are comma-separated. Durations are written like 30s or 1h30m.
With --config, flags that stand for fields of the file are ignored, except those of logging and --hostname-override.
Environment: KUBEPLUMB_APISERVER takes the place of --apiserver (comma-separated).
`;

function isSwitch(flag: Flag): boolean {
  return flag.type === 'boolean' || flag.type === 'version';
}

function placeholder(flag: Flag): string {
  if (isSwitch(flag)) return '[bool]';
  return `<${PLACEHOLDERS[flag.type] ?? flag.type}>`;
}

/** `--a_b=x_y` → `--a-b=x_y`; a bare boolean gets its value, so that it never takes the next argument. */
function normalise(arg: string): string {
  if (/^-v=/.test(arg)) return `-${arg}`;
  if (!arg.startsWith('--')) return arg;
  const at = arg.indexOf('=');
  const name = (at < 0 ? arg : arg.slice(0, at)).replaceAll('_', '-');
  if (at >= 0) return name + arg.slice(at);
  return SWITCHES.has(name) ? `${name}=true` : name;
}
