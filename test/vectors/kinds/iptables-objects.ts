// chains and rules of the iptables mode for a state of the cluster.
import assert from 'node:assert/strict';
import { isOwnedChain } from '../../../backends/iptables/names.ts';
import { probabilityText, probabilityThreshold } from '../../../backends/iptables/probability.ts';
import type { Match, Rule, Table } from '../../../backends/iptables/rule.ts';
import { tablesOf } from '../../../backends/iptables/ruleset.ts';
import { LOCALHOST_COUNTER } from '../../../backends/iptables/service-rules.ts';
import { clusterOf } from '../../support/vector-cluster.ts';
import { sameSet, type Vector } from '../vector.ts';

const LISTS = ['dispatch', 'nodePorts', 'filterClusterIPs', 'filterExternal', 'filterFirewall', 'healthCheckPorts'];

export async function run({ input, expect }: Vector): Promise<void> {
  const { settings, planner } = clusterOf(input, 'iptables');
  const options = { settings, family: input.family, nfacct: [LOCALHOST_COUNTER], randomFully: true };
  const tables = tablesOf(await planner.all(), options);
  const owned = [...tables.nat].filter(([name]) => isOwnedChain(name));
  const rules = (table: Table, chain: string): readonly Rule[] => tables[table].get(chain)!;
  const found: Record<string, unknown[]> = {
    dispatch: rules('nat', 'KUBE-SERVICES').filter(hasPort).map(reduced),
    nodePorts: rules('nat', 'KUBE-NODEPORTS')
      .filter(({ matches }) => !matches.some(({ match }) => match === 'nfacct'))
      .map(reduced),
    filterClusterIPs: rules('filter', 'KUBE-SERVICES').map(reduced),
    filterExternal: rules('filter', 'KUBE-EXTERNAL-SERVICES').map(reduced),
    filterFirewall: rules('filter', 'KUBE-PROXY-FIREWALL').map((rule) => {
      const { target, ...rest } = reduced(rule);
      assert.equal(target, 'DROP');
      return rest;
    }),
    healthCheckPorts: [...new Set(rules('filter', 'KUBE-NODEPORTS').map((rule) => reduced(rule).port))],
  };
  sameSet(
    owned.map(([name]) => name),
    expect.chains,
    'chains',
  );
  for (const list of LISTS) sameSet(found[list]!, expect[list], list);
  const choosing = owned.filter(([name]) => /^KUBE-SV[CL]-/.test(name));
  assert.deepEqual(Object.fromEntries(choosing.map(([name, own]) => [name, choices(own)])), expect.choices);
}

const portOf = ({ matches }: Rule): number | null =>
  matches.find((m): m is Match & { match: 'port' } => m.match === 'port')?.port ?? null;
const hasPort = (rule: Rule): boolean => portOf(rule) !== null;

/** Counter rules aside, a rule of the shared chains in the vectors' words. */
function reduced(rule: Rule): { destination?: string; protocol?: string; port: number | null; target: string } {
  const { destination, protocol, matches, target } = rule;
  assert.ok(target !== null);
  const local = matches.some((m) => m.match === 'addrtype');
  const where = local ? 'LOCAL' : destination?.cidr.replace(/\/(32|128)$/, '');
  return {
    ...(where !== undefined && { destination: where }),
    ...(protocol !== undefined && { protocol: protocol.toUpperCase() }),
    port: portOf(rule),
    target: target.target === 'jump' ? target.chain : target.target,
  };
}

/** The random choice of a chain; the text of a probability is that of its place. */
function choices(rules: readonly Rule[]): { chain: string; probability: string | null }[] {
  const choice = rules.filter(
    ({ target, matches }) =>
      target?.target === 'jump' && target.chain.startsWith('KUBE-SEP-') && !matches.some((m) => m.match === 'recent'),
  );
  return choice.map(({ target, matches }, i) => {
    const statistic = matches.find((m) => m.match === 'statistic');
    const left = choice.length - i;
    if (statistic !== undefined) assert.equal(statistic.threshold, probabilityThreshold(left));
    const chain = target?.target === 'jump' ? target.chain : '';
    return { chain, probability: statistic === undefined ? null : probabilityText(left) };
  });
}
