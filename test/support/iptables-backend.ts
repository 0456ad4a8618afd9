// The iptables backend in a test's own network namespace, with everything it commits kept for the test to look at.
import { IptablesBackend, type IptablesCallbacks, type IptablesMachinery } from '../../backends/iptables/backend.ts';
import { NetlinkRules } from '../../backends/iptables/netlink-rules.ts';
import type { RuleChanges } from '../../backends/iptables/rule-changes.ts';
import type { RuleWriter } from '../../backends/iptables/rule-writer.ts';
import { watchRules } from '../../backends/iptables/rules-watch.ts';
import { FAMILIES, type Family } from '../../native/ip.ts';
import { saved } from './iptables-tool.ts';
import type { EventLog } from './own-namespace.ts';

export interface TestBackendOptions {
  readonly events: EventLog;
  /** Netlink with this limit unless given. */
  readonly writer?: RuleWriter;
  readonly limitBytes?: number;
  /** Foreign changes are looked for; else only `verify` finds them. Over netlink only. */
  readonly watch?: boolean;
}

export class TestBackend extends IptablesBackend {
  readonly #commits: RuleChanges[][] = [];

  constructor(options: TestBackendOptions) {
    const { events, limitBytes, watch = false } = options;
    const netlink = new NetlinkRules({ ...(limitBytes !== undefined && { limitBytes }) });
    const writer = options.writer ?? netlink;
    if (writer !== netlink) netlink.close();
    const commit = writer.commit.bind(writer);
    writer.commit = async (changes, generation) => {
      const result = await commit(changes, generation);
      if (result.outcome === 'committed') this.#commits.push([...changes]);
      return result;
    };
    const open = async (callbacks: IptablesCallbacks): Promise<IptablesMachinery> => ({
      writer,
      nfacct: [],
      watch: watch ? watchRules(netlink, callbacks) : { start() {}, stop() {} },
      removeLeftovers: null,
    });
    super({ events, open, prepare: () => {}, cleanup: async () => [] });
  }

  /** What was committed since it was asked last. */
  takeCommits(): RuleChanges[][] {
    return this.#commits.splice(0);
  }
}

/** Chains named in changes, with what is done to them: `nat KUBE-SVC-…: rewritten`. */
export function touchedChains(commits: readonly (readonly RuleChanges[])[]): string[] {
  return commits
    .flat()
    .flatMap(({ content = [], insert = [], deleteRules = [], deleteChains = [], jumps = [] }) => [
      ...content.flat().map(({ table, chain, exists }) => `${table} ${chain}: ${exists ? 'rewritten' : 'made'}`),
      ...insert.map(({ table, chain }) => `${table} ${chain}: a rule more`),
      ...jumps.map(({ table, chain }) => `${table} ${chain}: a jump`),
      ...deleteRules.map(({ table, chain }) => `${table} ${chain}: a rule less`),
      ...deleteChains.map(({ table, chain }) => `${table} ${chain}: deleted`),
    ]);
}

/** Lines of both families as the tools list them; the order of chains is left out. */
export function listing(lines: (family: Family) => readonly string[] = saved): string[] {
  return FAMILIES.flatMap((family) => byChain(lines(family)));
}

/** The same of a text in the form of iptables-save. */
export function linesOf(text: string): string[] {
  const lines = text.split('\n').flatMap((line) => (line === '' ? [] : [line.replace(/ \[\d+:\d+\]$/, '')]));
  const starts = lines.flatMap((line, i) => (line.startsWith('# IPv') ? [i] : []));
  return starts.flatMap((start, i) => byChain(lines.slice(start + 1, starts[i + 1])));
}

const SHARED = /^-A KUBE-(SERVICES|NODEPORTS|EXTERNAL-SERVICES|PROXY-FIREWALL) /;

/** Tables and chains by name, rules in the order of their chain; of shared chains the last rule stays last. */
function byChain(lines: readonly string[]): string[] {
  const tables: string[][] = [];
  for (const line of lines) {
    if (line.startsWith('*')) tables.push([line]);
    else if (line !== 'COMMIT') tables.at(-1)!.push(line);
  }
  return tables.sort(([a], [b]) => (a! < b! ? -1 : 1)).flatMap(tableLines);
}

function tableLines([head = '', ...lines]: readonly string[]): string[] {
  const chains = lines.filter((text) => text.startsWith(':') && !text.endsWith(' ACCEPT'));
  const rules = Map.groupBy(
    lines.filter((text) => text.startsWith('-A ')),
    (text) => text.split(' ')[1]!,
  );
  const out = [head, ...chains.sort()];
  for (const chain of [...rules.keys()].sort()) {
    const list = rules.get(chain)!;
    const last = list.findLastIndex((text) => text.includes('must be the last rule'));
    if (last >= 0 && last !== list.length - 1) out.push(`${chain}: the jump to node ports is not the last rule`);
    out.push(...(SHARED.test(list[0]!) ? list.sort() : list));
  }
  return out;
}
