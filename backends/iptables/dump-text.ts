// Rules for people, as iptables-save prints them: from memory, or what the kernel holds.
import type { Family } from '../../native/ip.ts';
import type { KernelRules, ListedRule } from './read.ts';
import { type Rule, TABLES, type Table } from './rule.ts';
import type { Tables } from './ruleset.ts';
import { saveTextParts } from './save-text.ts';

const heading = (family: Family): string =>
  `# ${family}, as ${family === 'IPv4' ? 'iptables-save' : 'ip6tables-save'} prints it\n`;

/** '' when there is nothing. */
export function* saveTextOf(tables: Tables, family: Family): Generator<string> {
  if (TABLES.every((table) => tables[table].size === 0)) return;
  yield heading(family);
  yield* saveTextParts(tables, family);
}

/** Our chains and the built-in ones as they are in the kernel; of one Service with `service` (`namespace/name`). */
export function kernelText(kernel: KernelRules, family: Family, service?: string): string {
  const tables: Record<Table, Map<string, readonly Rule[]>> = { mangle: new Map(), filter: new Map(), nat: new Map() };
  let opaque = 0;
  for (const [table, chains] of kernel.tables) {
    const wanted = service === undefined ? null : chainsOfService(chains, service);
    for (const [chain, listed] of chains) {
      const rules = listed.flatMap(({ rule }) => rule ?? []);
      opaque += listed.length - rules.length;
      if (wanted === null) tables[table].set(chain, rules);
      else if (wanted.has(chain)) tables[table].set(chain, rules);
      else {
        const own = rules.filter((rule) => isOfService(rule, service!));
        if (own.length > 0) tables[table].set(chain, own);
      }
    }
  }
  const text = [...saveTextOf(tables, family)].join('');
  return opaque > 0 && service === undefined
    ? `${text}# ${opaque} rules of others in these chains are not shown\n`
    : text;
}

function isOfService(rule: Rule, service: string): boolean {
  return rule.matches.some(
    (m) => m.match === 'comment' && (m.text.startsWith(`${service}:`) || m.text.startsWith(`${service} `)),
  );
}

/** Chains that rules of the Service lead to, and so on. */
function chainsOfService(chains: ReadonlyMap<string, readonly ListedRule[]>, service: string): Set<string> {
  const out = new Set<string>();
  const visit = (rule: Rule | null): void => {
    if (rule?.target?.target !== 'jump') return;
    const { chain } = rule.target;
    if (out.has(chain) || !/^KUBE-(SVC|SVL|EXT|FW|SEP)-/.test(chain)) return;
    out.add(chain);
    for (const listed of chains.get(chain) ?? []) visit(listed.rule);
  };
  for (const listed of chains.values())
    for (const { rule } of listed) if (rule && isOfService(rule, service)) visit(rule);
  return out;
}
