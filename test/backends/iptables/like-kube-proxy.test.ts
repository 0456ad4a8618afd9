// The rules of sixty Services of all kinds side by side with what kube-proxy 1.36 makes of the same objects, recorded
// with both families of the tools by test/record/kube-proxy-iptables.ts.
import { readFileSync } from 'node:fs';
import t from 'tap';
import { SHARED_CHAINS } from '../../../backends/iptables/fixed-rules.ts';
import { parseSave, type SavedRule } from '../../../backends/iptables/parse-save.ts';
import { type Rule, ruleKey, TABLES, type Table } from '../../../backends/iptables/rule.ts';
import { saveText } from '../../../backends/iptables/save-text.ts';
import { FAMILIES } from '../../../native/ip.ts';
import { RECORDINGS, type RecordingName, SERVICE_NAMES } from '../../fixtures/sixty-services.ts';
import { sixtyRules } from '../../support/sixty-rules.ts';

/**
 * Lines that only one side has, each with its reason. Of these Services there are none; the order of rules in chains
 * that all Services share differs, as kube-proxy's does from run to run. Elsewhere we differ on purpose:
 * - an address that two Services claim is in the rules of the older one alone (kube-proxy writes both);
 * - with feature gate AllowServiceExternalIPs off, a Service reached by external IPs alone has no KUBE-EXT chain
 *   (kube-proxy's is there, and nothing leads to it);
 * - a detector that takes every address for a pod (a CIDR of length 0) makes no rule to masquerade the others.
 */
const DIFFERENCES: Readonly<Record<string, string>> = {};

const recorded = (name: string, tools: string, family: string): string =>
  readFileSync(new URL(`../../golden/iptables/${name}-${tools}-${family}.txt`, import.meta.url), 'utf8');

/** Lines in order, of the chains the proxy makes; a shared chain's rules are sorted. */
function lines(text: string, table: Table): string[] {
  const all = (text.split(/^\*/m).find((part) => part.startsWith(`${table}\n`)) ?? '').split('\n');
  const ours = all.filter((line) => /^(:KUBE-|-A )/.test(line) && !(line in DIFFERENCES));
  const shared = ours.filter((line) => SHARED_CHAINS[table].includes(line.split(' ')[1]!));
  return [...ours.filter((line) => !shared.includes(line)), ...shared.sort()];
}

t.equal(SERVICE_NAMES.length, 60);

for (const [name, { tools }] of Object.entries(RECORDINGS)) {
  for (const family of FAMILIES) {
    t.test(`${name}, ${family}`, async (t) => {
      const { tables } = await sixtyRules(name as RecordingName, family);
      const text = saveText(tables, family);
      for (const tool of tools) {
        const wanted = recorded(name, tool, family);
        t.ok(TABLES.flatMap((table) => lines(wanted, table)).length > 900, 'there is enough to compare');
        for (const table of TABLES) {
          t.same(lines(text, table), lines(wanted, table), `table ${table} as iptables-${tool} lists it`);
        }
        t.match(last(wanted), /KUBE-NODEPORTS$/);
        t.equal(last(text), last(wanted), 'the jump to node ports is the last');
        t.test(`what iptables-${tool}-save prints is read back`, async (t) => {
          const parsed = parseSave(wanted);
          for (const table of TABLES) {
            const chains = parsed.get(table)!.chains;
            t.equal([...chains.values()].flat().filter(({ rule }) => rule === null).length, 0, 'no rule is opaque');
            for (const [chain, rules] of tables[table]) {
              const inOrder = !SHARED_CHAINS[table].includes(chain);
              t.same(keys(chains.get(chain)!, inOrder), keys(rules, inOrder), `${table} ${chain}`);
            }
          }
        });
      }
    });
  }
}

const last = (text: string): string =>
  text
    .split('\n')
    .filter((line) => line.startsWith('-A KUBE-SERVICES'))
    .at(-1)!;

function keys(rules: readonly (Rule | SavedRule)[], inOrder: boolean): string[] {
  const out = rules.map((rule) => ('rule' in rule ? ruleKey(rule.rule!) : ruleKey(rule)));
  return inOrder ? out : out.sort();
}
