// The steps from what the kernel holds to what it shall hold.
import t from 'tap';
import type { KernelTable } from '../../../backends/nft-table/read.ts';
import {
  asKernelTable,
  describeSteps,
  hasStructure,
  noSteps,
  planTable,
} from '../../../backends/nft-table/table-plan.ts';
import { knownActionChains } from '../../../backends/nftables/action-steps.ts';
import { desiredTable } from '../../../backends/nftables/desired.ts';
import { tablesOf } from '../../../backends/nftables/render.ts';
import type { SetName } from '../../../backends/nftables/schema.ts';
import { endpoints, portPlan, SETTINGS, servicePlan } from '../../support/plans.ts';

const table = tablesOf(SETTINGS, [servicePlan('web', [portPlan({ cluster: endpoints(3) })])])[0]!;
const desired = desiredTable(SETTINGS, table);
const intact = asKernelTable(desired);

const plan = (changes: Partial<KernelTable<SetName>>) => planTable({ ...intact, ...changes }, desired);
function without<K, V>(map: ReadonlyMap<K, V>, key: K): Map<K, V> {
  const copy = new Map(map);
  copy.delete(key);
  return copy;
}

t.test('nothing to do', async (t) => {
  const steps = plan({});
  t.ok(noSteps(steps));
  t.notOk(hasStructure(steps));
});

t.test('no table', async (t) => {
  const steps = planTable(null, desired);
  t.equal(steps.replaceTable, 'create');
  t.equal(steps.newChains.length, desired.chains.size);
  t.equal(steps.newSets.length, 21);
  t.same(steps.flushChains, []);
  t.equal(steps.elements.deletions.size, 0);
  t.equal(steps.elements.additions.get('endpoints')!.length, 3);
  t.equal(describeSteps(steps), 'IPv4 table missing');
});

t.test('a damaged table is built anew', async (t) => {
  const steps = plan({ damaged: 'its comment is not ours' });
  t.equal(steps.replaceTable, 'recreate');
  t.equal(steps.newChains.length, desired.chains.size);
  t.same([...steps.elements.deletions], []);
  t.equal(describeSteps(steps), 'IPv4 table damaged');
});

t.test('a base chain at another hook or priority cannot be changed in place', async (t) => {
  const chains = new Map(intact.chains).set('nat-prerouting', 'nat:0:-99');
  t.equal(plan({ chains }).replaceTable, 'recreate');
});

t.test('a missing chain', async (t) => {
  const steps = plan({ chains: without(intact.chains, 'lb-3'), rules: without(intact.rules, 'lb-3') });
  t.same(steps.newChains, ['lb-3']);
  t.same(
    steps.newRules.map(([chain, rules]) => [chain, rules.length]),
    [['lb-3', 2]],
  );
  t.match(describeSteps(steps), 'lb-3');
});

t.test('changed rules: the chain is flushed and written anew', async (t) => {
  const rules = new Map(intact.rules);
  rules.set('dispatch', rules.get('dispatch')!.slice(1));
  const steps = plan({ rules });
  t.same(steps.flushChains, ['dispatch']);
  t.same(
    steps.newRules.map(([chain]) => chain),
    ['dispatch'],
  );
  t.same(steps.newChains, []);
  t.ok(hasStructure(steps));
});

t.test('one expression differs', async (t) => {
  const rules = new Map(intact.rules);
  const [first, ...rest] = rules.get('masquerading')!;
  const changed = first!.map((e) => (e.name === 'bitwise' ? { ...e, mask: '\0\0\0\x40' } : e));
  t.same(plan({ rules: rules.set('masquerading', [changed, ...rest]) }).flushChains, ['masquerading']);
});

t.test('foreign chains and sets go, emptied before', async (t) => {
  const steps = plan({
    chains: new Map([...intact.chains, ['foreign', '']]),
    sets: new Set([...intact.sets, 'foreign-set']),
  });
  t.same([steps.oldChains, steps.flushChains, steps.oldSets], [['foreign'], ['foreign'], ['foreign-set']]);
});

t.test('a missing set', async (t) => {
  const sets = new Set(intact.sets);
  sets.delete('hairpin');
  t.same(
    plan({ sets }).newSets.map((set) => set.name),
    ['hairpin'],
  );
});

t.test('elements: missing, foreign, changed', async (t) => {
  const elements = new Map(intact.elements);
  const all = [...elements.get('endpoints')!.values()];
  const foreign = { key: `${all[0]!.key.slice(0, -4)}\x09\0\0\0`, data: all[0]!.data! };
  const kernel = [all[0]!, { ...all[1]!, data: all[0]!.data! }, foreign];
  elements.set('endpoints', new Map(kernel.map((e) => [e.key, e])));
  const steps = plan({ elements });
  t.notOk(hasStructure(steps));
  t.notOk(noSteps(steps));
  t.same(steps.elements.deletions.get('endpoints'), [kernel[1], foreign]);
  t.same(steps.elements.additions.get('endpoints'), [all[1], all[2]]);
});

t.test('chains of ours that nobody uses now are known again', async (t) => {
  const chains = new Map([
    ...intact.chains,
    ['lb-99', ''],
    ['lb-0777', ''],
    ['lb-0', ''],
    ['lb-70000', ''],
    ['mq-sa60-4', ''],
    ['other', ''],
  ]);
  const known = knownActionChains({ ...intact, chains }).map(({ prefix, count }) => `${prefix}-${count}`);
  t.ok(known.includes('lb-99'));
  t.ok(known.includes('mq-4'));
  for (const name of ['lb-777', 'lb-0', 'lb-70000']) t.notOk(known.includes(name), `${name}: not a name of ours`);
});
