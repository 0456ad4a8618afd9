// Which variant of iptables the node uses: the kubelet leaves a chain that tells, otherwise it shows in who has rules
// where (I-54). First what is found is gathered, then decided without further looking.
import { FAMILIES, type Family } from '../../native/ip.ts';
import { NetlinkError } from '../../native/netlink/error.ts';
import { InterruptedDump, type NftConnection } from '../../native/nftables/connection.ts';
import { BUILTIN_CHAINS } from './fixed-rules.ts';
import { SaveParser } from './parse-save.ts';
import { readChain } from './read.ts';
import { type Rule, TABLES, type Table } from './rule.ts';
import { findTool, type RunTool, ToolMissing, toolRunner, type Variant } from './run-tool.ts';
import { legacyTables } from './tool-rules.ts';

/** Chains the kubelet makes in table mangle of its variant, the clearer one first. */
const HINTS: readonly string[] = ['KUBE-IPTABLES-HINT', 'KUBE-KUBELET-CANARY'];

/** What is found of one variant, both families together. */
export interface Signs {
  /** Hints of the kubelet, such as `IPv4 KUBE-KUBELET-CANARY`. */
  readonly hints: readonly string[];
  /** KUBE-SERVICES is there: a proxy has written here. */
  readonly services: boolean;
  /** There are chains or rules other than those of Kubernetes. */
  readonly foreign: boolean;
  /** There are chains or rules at all. */
  readonly used: boolean;
  /** Why not everything could be looked at, or null. */
  readonly blind: string | null;
}

export interface Detection {
  readonly variant: Variant;
  readonly reason: string;
  /** What speaks against it, with commands that show it, or null. Rules should then not be written unless forced. */
  readonly mix: string | null;
  /** The other variant holds rules of a proxy, to be removed when the new ones are complete. */
  readonly leftovers: boolean;
}

const other = (variant: Variant): Variant => (variant === 'nft' ? 'legacy' : 'nft');

export function decideVariant(signs: Readonly<Record<Variant, Signs>>, forced: Variant | null = null): Detection {
  const { variant, reason } = forced ? { variant: forced, reason: 'as configured' } : choose(signs);
  const rest = signs[other(variant)];
  return { variant, reason, mix: forced ? null : mixOf(variant, signs), leftovers: rest.services };
}

function choose({ nft, legacy }: Readonly<Record<Variant, Signs>>): Pick<Detection, 'variant' | 'reason'> {
  const found = (hints: readonly string[]): string => `the kubelet uses it: ${hints.join(', ')} in table mangle`;
  if (nft.hints.length > 0) return { variant: 'nft', reason: found(nft.hints) };
  if (legacy.hints.length > 0) return { variant: 'legacy', reason: found(legacy.hints) };
  if (legacy.used && !nft.used) return { variant: 'legacy', reason: 'there are rules in legacy tables only' };
  if (nft.blind !== null) {
    return legacy.blind === null
      ? { variant: 'legacy', reason: nft.blind }
      : { variant: 'nft', reason: `the default; ${nft.blind}; ${legacy.blind}` };
  }
  if (nft.used) return { variant: 'nft', reason: 'there are rules in its tables' };
  return { variant: 'nft', reason: legacy.blind === null ? 'the default' : `the default; ${legacy.blind}` };
}

function mixOf(variant: Variant, signs: Readonly<Record<Variant, Signs>>): string | null {
  const rest = other(variant);
  const { hints, services, foreign } = signs[rest];
  const what: string[] = [];
  if (hints.length > 0) what.push(`hints of the kubelet (${hints.join(', ')}; see iptables-${rest}-save -t mangle)`);
  // Alone they are leftovers, which go.
  if (services && foreign)
    what.push(`KUBE-SERVICES beside rules of others (see iptables-${rest}-save and ip6tables-${rest}-save)`);
  if (what.length === 0) return null;
  return `both variants of iptables are in use: ${variant} was chosen, but ${rest} has ${what.join(' and ')}`;
}

export interface DetectOptions {
  readonly nft: NftConnection;
  readonly families?: readonly Family[];
  readonly forced?: Variant | null;
  readonly run?: RunTool;
  /** Names of the legacy tables that exist; others must not be asked for. */
  readonly legacyTables?: (family: Family) => readonly string[];
}

/** @throws NetlinkError without the privilege to look; Error when a tool that is there fails. */
export async function detectVariant(options: DetectOptions): Promise<Detection> {
  const { forced = null } = options;
  return decideVariant({ nft: await signsOfNft(options), legacy: await signsOfLegacy(options) }, forced);
}

/** Notes what is found in one variant. */
class Notes {
  readonly #hints: string[] = [];
  #services = false;
  #foreign = false;
  #used = false;
  #blind: string | null = null;

  chain(family: Family, table: Table, name: string): void {
    if (BUILTIN_CHAINS[table].includes(name)) return;
    this.#used = true;
    if (table === 'mangle' && HINTS.includes(name)) this.#hints.push(`${family} ${name}`);
    else if (table === 'nat' && name === 'KUBE-SERVICES') this.#services = true;
    else if (!name.startsWith('KUBE-')) this.#foreign = true;
  }

  /** A rule of a built-in chain; null: opaque. */
  builtIn(rule: Rule | null): void {
    this.#used = true;
    const target = rule?.target;
    if (target?.target !== 'jump' || !target.chain.startsWith('KUBE-')) this.#foreign = true;
  }

  blind(reason: string): void {
    this.#blind = reason;
  }

  signs(): Signs {
    const hints = this.#hints.sort((a, b) => rank(a) - rank(b));
    return { hints, services: this.#services, foreign: this.#foreign, used: this.#used, blind: this.#blind };
  }
}

const rank = (hint: string): number => HINTS.findIndex((name) => hint.endsWith(name));

/** Codes of a kernel that has no nf_tables. */
const MISSING: readonly string[] = ['EINVAL', 'EOPNOTSUPP'];
const ATTEMPTS = 20;

async function signsOfNft({ nft, families = FAMILIES }: DetectOptions): Promise<Signs> {
  for (let attempt = 1; ; attempt++) {
    const notes = new Notes();
    try {
      for (const family of families) await lookAtNft(nft, family, notes);
      return notes.signs();
    } catch (error) {
      if (error instanceof NetlinkError && MISSING.includes(error.code)) {
        notes.blind(`the kernel has no nf_tables (${error.message})`);
        return notes.signs();
      }
      if (!(error instanceof InterruptedDump) || attempt >= ATTEMPTS) throw error;
    }
  }
}

async function lookAtNft(nft: NftConnection, family: Family, notes: Notes): Promise<void> {
  const builtIn: [Table, string][] = [];
  await nft.eachChain(family, (name, chain) => {
    const table = TABLES.find((table) => table === name);
    if (!table) return;
    notes.chain(family, table, chain.name);
    if (BUILTIN_CHAINS[table].includes(chain.name)) builtIn.push([table, chain.name]);
  });
  for (const [table, chain] of builtIn) {
    for (const { rule } of await readChain(nft, family, table, chain)) notes.builtIn(rule);
  }
}

async function signsOfLegacy(options: DetectOptions): Promise<Signs> {
  const { families = FAMILIES, run = toolRunner() } = options;
  const notes = new Notes();
  for (const family of families) {
    const names = (options.legacyTables ?? legacyTables)(family);
    const tables = TABLES.filter((table) => names.includes(table));
    if (tables.length === 0) continue;
    let program: string;
    try {
      program = (await findTool(run, 'legacy', family)).program('-save');
    } catch (error) {
      if (!(error instanceof ToolMissing)) throw error;
      notes.blind(`there are legacy tables, but ${error.message} to look into them`);
      continue;
    }
    for (const table of tables) {
      const parser = new SaveParser();
      // What is in Kubernetes' chains does not matter, and may be long.
      const line = (text: string): void => {
        if (!text.startsWith('-A KUBE-')) parser.take(text);
      };
      const { status, stderr } = await run({ program, args: ['-t', table], line });
      if (status !== 0) throw new Error(`${program} -t ${table}: exit code ${status}: ${stderr}`);
      for (const [name, rules] of parser.tables().get(table)?.chains ?? []) {
        notes.chain(family, table, name);
        if (BUILTIN_CHAINS[table].includes(name)) for (const { rule } of rules) notes.builtIn(rule);
      }
    }
  }
  return notes.signs();
}

/** What an operator forces. */
export interface Forced {
  readonly variant: Variant | null;
  readonly writer: 'netlink' | 'tool' | null;
}

const VARIANT = 'KUBEPLUMB_IPTABLES_VARIANT';
const WRITER = 'KUBEPLUMB_IPTABLES_WRITER';

/** @throws Error that names the variable when its value is not one of those known. */
export function forcedBy(env: Readonly<Record<string, string | undefined>>): Forced {
  const one = <T extends string>(name: string, values: readonly T[]): T | null => {
    const value = env[name];
    if (value === undefined || value === '') return null;
    const known = values.find((v) => v === value);
    if (known === undefined) throw new Error(`${name}: "${value}" is none of ${values.join(', ')}`);
    return known;
  };
  const variant = one(VARIANT, ['nft', 'legacy'] as const);
  const writer = one(WRITER, ['netlink', 'tool'] as const);
  if (variant === 'legacy' && writer === 'netlink') throw new Error(`${WRITER}: "netlink" cannot write legacy rules`);
  return { variant, writer };
}
