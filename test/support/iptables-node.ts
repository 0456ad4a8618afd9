// The variants of iptables on a test node: how the agent is told to use one, and its tools.
import { spawnSync } from 'node:child_process';
import { existsSync, realpathSync, symlinkSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Variant } from '../../backends/iptables/run-tool.ts';
import type { Family } from '../../native/ip.ts';
import type { Network } from './network.ts';
import type { AgentOptions } from './running-agent.ts';
import { temporaryFolder } from './temporary-folder.ts';

export const VARIANTS: readonly Variant[] = ['nft', 'legacy'];

/** Why the tools of a variant cannot be used here, or false. */
export function variantMissing(variant: Variant): string | false {
  const program = `iptables-${variant}`;
  return spawnSync(program, ['--version']).error !== undefined && `no program "${program}"`;
}

/** Options of an agent that writes iptables rules in this variant, without waiting a second between syncs. */
export function inVariant(variant: Variant): Required<Pick<AgentOptions, 'mode' | 'env' | 'flags'>> {
  return {
    mode: 'iptables',
    env: { KUBEPLUMB_IPTABLES_VARIANT: variant },
    flags: ['--iptables-min-sync-period=10ms'],
  };
}

const PROGRAMS = ['iptables', 'iptables-save', 'iptables-restore'].flatMap((name) => [name, `ip6${name.slice(2)}`]);

const paths = new Map<Variant, string>();

/** A search path on which the plain names of the programs are those of a variant; it goes when this process ends. */
export function pathOf(variant: Variant): string {
  const known = paths.get(variant);
  if (known !== undefined) return known;
  const folder = temporaryFolder();
  const places = (process.env.PATH ?? '').split(delimiter);
  for (const name of PROGRAMS) {
    const wanted = name.replace('tables', `tables-${variant}`);
    const found = places.map((place) => join(place, wanted)).find((file) => existsSync(file));
    if (found === undefined) throw new Error(`no program "${wanted}"`);
    symlinkSync(realpathSync(found), join(folder, name));
  }
  const path = `${folder}${delimiter}${process.env.PATH}`;
  paths.set(variant, path);
  return path;
}

/** The tools of one variant on the node. */
export class NodeTools {
  readonly #net: Network;
  readonly variant: Variant;

  constructor(net: Network, variant: Variant) {
    this.#net = net;
    this.variant = variant;
  }

  program(family: Family, what: '' | '-save' | '-restore' = ''): string {
    return `${family === 'IPv4' ? 'iptables' : 'ip6tables'}-${this.variant}${what}`;
  }

  /** Runs a command as people write it, but for the name of the program: `iptables -t nat -L`. */
  run(command: string): string {
    const [program = '', ...args] = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(
      ([, quoted, word]) => quoted ?? word!,
    );
    const family = program.startsWith('ip6') ? 'IPv6' : 'IPv4';
    const what = program.endsWith('-save') ? '-save' : '';
    const wait = what === '' ? ['-w', '5'] : [];
    return this.#net.exec('node', [this.program(family, what), ...wait, ...args]);
  }

  /** Lines of iptables-save without comments and counters. */
  saved(family: Family, table?: string): string[] {
    const args = table === undefined ? [] : ['-t', table];
    return this.#net
      .exec('node', [this.program(family, '-save'), ...args])
      .split('\n')
      .flatMap((line) => (line === '' || line.startsWith('#') ? [] : [line.replace(/ \[\d+:\d+\]$/, '')]));
  }

  restore(family: Family, script: string, ...args: string[]): void {
    this.#net.exec('node', [this.program(family, '-restore'), '-w', '5', ...args], script);
  }
}
