// Lets packets of connections through FORWARD where the policy of others drops them: what endpoints answer passes there
// on its way back to IPVS, and an accept in our own tables would not overrule a drop in another (V-36, S-68).
import { FAMILIES, type Family } from '../../native/ip.ts';
import { InterruptedDump, type NftConnection } from '../../native/nftables/connection.ts';
import { NFPROTO } from '../../native/nftables/constants.ts';
import type { KernelBaseChain } from '../../native/nftables/results.ts';
import type { BackendEvents } from '../backend.ts';
import { fixedChains, JUMPS, type Jump } from '../iptables/fixed-rules.ts';
import { leave } from '../iptables/leave.ts';
import { NetlinkRules } from '../iptables/netlink-rules.ts';
import { FORWARD_CHAIN, type Leftovers } from '../iptables/proxy-rules.ts';
import type { KernelRules } from '../iptables/read.ts';
import { type Rule, ruleKey, type Table } from '../iptables/rule.ts';
import type { RuleChanges } from '../iptables/rule-changes.ts';
import type { RuleWriter } from '../iptables/rule-writer.ts';
import { type RunTool, ToolMissing } from '../iptables/run-tool.ts';
import { legacyTables, ToolRules } from '../iptables/tool-rules.ts';
import type { NodeSettings } from '../service-plan.ts';

/** What operators see in the status while packets may be lost. */
export const FORWARD_DROPPED = 'ForwardDropped';

const JUMP: Jump = JUMPS.find(({ rule: { target } }) => target?.target === 'jump' && target.chain === FORWARD_CHAIN)!;
const isForward = (table: Table, chain: string): boolean => table === 'filter' && chain === FORWARD_CHAIN;
const OURS: Leftovers = { jumps: [JUMP], isChain: isForward };

const INET = 1;
/** Of a base chain: hook forward, any priority. */
const FORWARD_HOOK = /^filter:2:/;
const ATTEMPTS = 5;

export interface ForwardingOptions {
  readonly events: BackendEvents;
  readonly run?: RunTool;
  /** Names of the legacy tables that exist; others must not be asked for. */
  readonly legacyTables?: (family: Family) => readonly string[];
}

/** What is dropped, and why nothing was done about it. */
interface Problems {
  readonly texts: string[];
}

export class Forwarding {
  readonly #events: BackendEvents;
  readonly #legacyTables: (family: Family) => readonly string[];
  readonly #nft = new NetlinkRules({ wanted: isForward });
  readonly #legacy: ToolRules;
  #reported: string | null = null;

  constructor({ events, run, legacyTables: tables = legacyTables }: ForwardingOptions) {
    this.#events = events;
    this.#legacyTables = tables;
    this.#legacy = new ToolRules({ variant: 'legacy', legacyTables: tables, ...(run && { run }) });
  }

  /**
   * KUBE-FORWARD, with the jump from FORWARD, is there in a variant and family of iptables exactly while the policy of
   * FORWARD is DROP; nothing is written where it is right already. What cannot be helped becomes a condition.
   * @returns what was changed, in words, or null
   */
  async converge(settings: NodeSettings): Promise<string | null> {
    const changed: string[] = [];
    const problems: Problems = { texts: [] };
    const families = FAMILIES.filter((family) => settings.families[family]);
    try {
      const dropping = (await baseChains(this.#nft.nft)).filter(({ base, drops }) => drops && FORWARD_HOOK.test(base));
      problems.texts.push(...foreign(dropping, families));
      for (const family of families) {
        const drops = dropping.some((chain) => chain.protocol === NFPROTO[family] && isIptables(chain));
        changed.push(...(await this.#family(this.#nft, family, drops, settings, problems)));
        if (!this.#legacyTables(family).includes('filter')) continue;
        const policy = await this.#legacyPolicy(family, problems);
        if (policy !== null) {
          changed.push(...(await this.#family(this.#legacy, family, policy === 'DROP', settings, problems)));
        }
      }
    } catch (error) {
      problems.texts.push(`cannot look into the rules of FORWARD: ${(error as Error).message}`);
    }
    this.#report(problems.texts.length > 0 ? problems.texts.join('; ') : null);
    return changed.length > 0 ? changed.join('; ') : null;
  }

  close(): void {
    this.#nft.close();
  }

  /** null when it cannot be known. */
  async #legacyPolicy(family: Family, { texts }: Problems): Promise<string | null> {
    try {
      return await this.#legacy.policy(family, 'filter', 'FORWARD');
    } catch (error) {
      if (!(error instanceof ToolMissing)) throw error;
      texts.push(
        `${family}: there is a legacy table filter, but ${error.message} to look into it: if the policy of FORWARD is ` +
          'DROP there, what endpoints answer is lost; install the program, or accept ctstate RELATED,ESTABLISHED there',
      );
      return null;
    }
  }

  /** @returns what was changed, in words. */
  async #family(
    writer: RuleWriter,
    family: Family,
    drops: boolean,
    settings: NodeSettings,
    problems: Problems,
  ): Promise<string[]> {
    const where = `${family} (iptables-${writer.variant})`;
    if (!drops) {
      const { removed, problems: left } = await leave(writer, [family], OURS);
      problems.texts.push(...left);
      return removed.map((text) => `${text} removed: FORWARD does not drop any more`);
    }
    try {
      if (!(await write(writer, family, forwardRules(settings, family)))) return [];
      this.#events.note(`${where}: ${FORWARD_CHAIN} accepts packets of connections, because FORWARD has policy DROP`);
      return [`${where}: ${FORWARD_CHAIN} was not there as it should be`];
    } catch (error) {
      problems.texts.push(
        `${where}: FORWARD has policy DROP, and ${FORWARD_CHAIN} cannot be written (${(error as Error).message}): what ` +
          'endpoints answer is lost unless its rules accept ctstate RELATED,ESTABLISHED',
      );
      return [];
    }
  }

  #report(message: string | null): void {
    if (message === this.#reported) return;
    this.#reported = message;
    this.#events.condition(FORWARD_DROPPED, message);
  }
}

async function baseChains(nft: NftConnection): Promise<KernelBaseChain[]> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await nft.baseChains();
    } catch (error) {
      if (!(error instanceof InterruptedDump) || attempt >= ATTEMPTS) throw error;
    }
  }
}

const isIptables = ({ table, name, protocol }: KernelBaseChain): boolean =>
  protocol !== INET && table === 'filter' && name === 'FORWARD';

/** Chains that iptables does not know, and that drop by policy. */
function foreign(dropping: readonly KernelBaseChain[], families: readonly Family[]): string[] {
  const words = new Map([[INET, 'inet'], ...families.map((f) => [NFPROTO[f], f === 'IPv4' ? 'ip' : 'ip6'] as const)]);
  return dropping.flatMap((chain) => {
    const family = words.get(chain.protocol);
    if (family === undefined || isIptables(chain)) return [];
    return [
      `nftables chain ${family} ${chain.table} ${chain.name} has hook forward and policy drop: what endpoints answer ` +
        'is lost unless its rules accept ct state established,related',
    ];
  });
}

/** As in iptables mode, but packets in conntrack state INVALID are left alone (V-36). */
function forwardRules(settings: NodeSettings, family: Family): readonly Rule[] {
  const options = { settings: { ...settings, dropInvalid: false }, family, nfacct: [], randomFully: true };
  return fixedChains(options).filter.get(FORWARD_CHAIN)!;
}

/** @returns whether anything had to be written. @throws Error with the reason when it cannot be */
async function write(writer: RuleWriter, family: Family, rules: readonly Rule[]): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    const kernel = await writer.read(family);
    const changes = missing(kernel, family, rules);
    if (changes === null) return false;
    const generation = kernel.settled && kernel.generation > 0 ? kernel.generation : undefined;
    const result = await writer.commit([changes], generation);
    if (result.outcome === 'committed') return true;
    if (result.outcome === 'refused') throw new Error(result.refusals.map(({ message }) => message).join('; '));
    if (attempt >= ATTEMPTS) throw new Error('the rules never stand still');
  }
}

function missing(kernel: KernelRules, family: Family, rules: readonly Rule[]): RuleChanges | null {
  const chains = kernel.tables.get('filter');
  const listed = chains?.get(FORWARD_CHAIN);
  const key = (rule: Rule | null): string | null => rule && ruleKey(rule);
  const right = listed?.length === rules.length && listed.every(({ rule }, i) => key(rule) === ruleKey(rules[i]!));
  const jumps = chains?.get(JUMP.from)?.some(({ rule }) => key(rule) === ruleKey(JUMP.rule)) ? [] : [JUMP];
  if (right && jumps.length === 0) return null;
  const place = { table: 'filter', chain: FORWARD_CHAIN } as const;
  return {
    family,
    content: right ? [] : [[{ ...place, rules, exists: listed !== undefined }]],
    jumps: jumps.map(({ table, from, rule }) => ({ table, chain: from, rule })),
  };
}
