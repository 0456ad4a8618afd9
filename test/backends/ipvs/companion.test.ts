// The companion table: its text recorded in test/golden, what nft prints of it, and repairs. UPDATE_GOLDEN=1 records
// the text anew.
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { noCounts, type SyncCounts } from '../../../backends/backend.ts';
import {
  companionParts,
  desiredCompanion,
  kernelCompanionParts,
  probeCompanion,
  readCompanion,
} from '../../../backends/ipvs/companion.ts';
import { COMPANION, COMPANION_TABLE, type CompanionSet } from '../../../backends/ipvs/companion-schema.ts';
import { Committer } from '../../../backends/nft-table/committer.ts';
import { allowedSources } from '../../../backends/nft-table/keys.ts';
import {
  asKernelTable,
  type DesiredTable,
  describeSteps,
  noSteps,
  planTable,
  type TableSteps,
  writeElements,
  writeRemovals,
  writeStructure,
} from '../../../backends/nft-table/table-plan.ts';
import type { FamilySettings, NodeSettings } from '../../../backends/service-plan.ts';
import { FAMILIES, type Family } from '../../../native/ip.ts';
import { NftConnection } from '../../../native/nftables/connection.ts';
import { ADDRESSES, companionElements, keyOf } from '../../support/companion.ts';
import { normalised } from '../../support/nft-text.ts';
import { enterNamespace, nft, nftScript } from '../../support/own-namespace.ts';
import { SETTINGS } from '../../support/plans.ts';

type Table = DesiredTable<CompanionSet>;

const both = (change: (family: Family) => Partial<FamilySettings>): NodeSettings['families'] =>
  Object.fromEntries(FAMILIES.map((family) => [family, { ...SETTINGS.families[family]!, ...change(family) }]));
const VARIANTS: readonly [string, NodeSettings][] = [
  ['pods by CIDR', SETTINGS],
  ['pods by interface', { ...SETTINGS, families: both(() => ({ detectLocal: { by: 'interface', name: 'cni0' } })) }],
  [
    'pods by prefix of the interface',
    { ...SETTINGS, families: both(() => ({ detectLocal: { by: 'interfacePrefix', prefix: 'veth' } })) },
  ],
  ['no detector', { ...SETTINGS, families: both(() => ({ detectLocal: null })) }],
  ['masquerade all, the highest bit', { ...SETTINGS, masqueradeAll: true, masqueradeBit: 31 }],
  ['the lowest bit', { ...SETTINGS, masqueradeBit: 0 }],
];

const tablesWith = (settings: NodeSettings): Table[] =>
  FAMILIES.map((family) => desiredCompanion(family, settings, companionElements(family)));
const textOf = (tables: readonly Table[]): string =>
  tables.map((table) => [...companionParts(table)].join('')).join('\n');

const inNamespace = await enterNamespace(t);

t.test('the recorded texts', async (t) => {
  for (const [name, settings] of VARIANTS) {
    const golden = new URL(`../../golden/ipvs/${name.replaceAll(/[ ,]+/g, '-')}.nft`, import.meta.url);
    const text = textOf(tablesWith(settings));
    if (process.env.UPDATE_GOLDEN) writeFileSync(golden, text);
    t.equal(text, readFileSync(golden, 'utf8'), name);
  }
});

t.test('another setting changes its own rules only', async (t) => {
  const [table] = tablesWith(SETTINGS);
  const chains = (settings: NodeSettings): readonly string[] =>
    planTable(asKernelTable(table!), tablesWith(settings)[0]!).flushChains;
  t.same(chains(SETTINGS), []);
  t.same(chains({ ...SETTINGS, masqueradeAll: true }), ['decide-cluster']);
  t.same(chains({ ...SETTINGS, masqueradeBit: 15 }), ['decide-cluster', 'decide', 'nat-postrouting']);
});

t.test('the text of some elements', async (t) => {
  const own = new Map<CompanionSet, Map<string, null>>([['health', new Map([['\x79\x18', null]])]]);
  const [table] = tablesWith(SETTINGS);
  const expected = ['table ip kubeplumb-ipvs {', 'set health {', 'typeof th dport', 'element 31000', '}', '}'];
  t.same(normalised([...companionParts(table!, own)].join('')), expected);
  const kernel = asKernelTable(table!);
  t.same(normalised([...kernelCompanionParts('IPv4', kernel, SETTINGS, own)].join('')), expected);
});

if (inNamespace) {
  const connection = new NftConnection();
  t.teardown(() => connection.close());
  const committer = new Committer(connection, COMPANION_TABLE);
  t.afterEach(() => nft('flush', 'ruleset'));

  const write = async (steps: readonly TableSteps<CompanionSet>[], counts: SyncCounts): Promise<void> =>
    committer.commit(counts, (batch) => {
      for (const s of steps) {
        writeStructure(batch, s);
        writeElements(batch, s);
        writeRemovals(batch, s);
      }
    });
  /** The steps from what the kernel holds. */
  const stepsTo = async (tables: readonly Table[]): Promise<TableSteps<CompanionSet>[]> => {
    const kernel = await readCompanion(connection, FAMILIES);
    return tables.map((table) => planTable(kernel.tables.get(table.family) ?? null, table));
  };
  const converge = async (tables: readonly Table[]): Promise<SyncCounts> => {
    const counts = noCounts();
    await write(await stepsTo(tables), counts);
    return counts;
  };
  const listing = (): string => ['ip', 'ip6'].map((f) => nft('list', 'table', f, COMPANION_TABLE)).join('\n');
  const kernelText = async (settings: NodeSettings | null): Promise<string> => {
    const { tables } = await readCompanion(connection, FAMILIES);
    return [...tables].map(([family, table]) => [...kernelCompanionParts(family, table, settings)].join('')).join('\n');
  };

  t.test('this kernel is able', async (t) => {
    await probeCompanion();
    t.equal(nft('list', 'ruleset'), '', 'nothing stays of the probe');
  });

  for (const [name, settings] of VARIANTS) {
    t.test(`nft prints it: ${name}`, async (t) => {
      const tables = tablesWith(settings);
      t.equal((await converge(tables)).transactions, 1);
      const text = listing();
      t.notMatch(text, /invalid|unknown/);
      t.same(normalised(text), normalised(textOf(tables)));
      t.same(normalised(await kernelText(settings)), normalised(text), 'and so do we of what the kernel holds');
      t.ok((await stepsTo(tables)).every(noSteps), 'nothing is left to do');
      t.same(await converge(tables), noCounts());
    });
  }

  t.test('rules that do not follow from the settings', async (t) => {
    await converge(tablesWith(SETTINGS));
    t.match(await kernelText(null), /\[ lookup set cluster /);
  });

  t.test('from one setting to another', async (t) => {
    for (const [name, settings] of VARIANTS) {
      await converge(tablesWith(settings));
      t.same(normalised(listing()), normalised(textOf(tablesWith(settings))), name);
    }
  });

  t.test('elements come and go', async (t) => {
    const tables = tablesWith(SETTINGS);
    await converge(tables);
    const { elements } = tables[0]!;
    const { limited, external } = ADDRESSES.IPv4;
    const key = keyOf('IPv4', limited, 80);
    elements.get('health')!.clear();
    elements.get('direct')!.delete(key);
    elements.get('masq')!.set(key, { key });
    elements.set('sources', new Map(allowedSources(key, ['203.0.113.0/24'], []).map((e) => [e.key, e])));
    const counts = await converge(tables);
    t.match(counts, { added: 2, deleted: 6, objects: 0, transactions: 1 });
    const text = listing();
    t.same(normalised(text), normalised(textOf(tables)));
    t.match(text, new RegExp(`${limited} \\. udp \\. 80 \\. 203\\.0\\.113\\.0/24`));
    t.match(text, new RegExp(`${external} \\. udp \\. 80`));
    t.ok((await stepsTo(tables)).every(noSteps));
    for (const list of elements.values()) list.clear();
    await converge(tables);
    t.notMatch(nft('list', 'table', 'ip', COMPANION_TABLE), /elements/);
  });

  t.test('foreign changes are found and repaired', async (t) => {
    const tables = tablesWith(SETTINGS);
    const cases: readonly [string, readonly string[], RegExp][] = [
      ['a rule is gone', ['flush chain ip kubeplumb-ipvs vip-input'], /rules of chain vip-input changed/],
      [
        'a foreign rule',
        ['insert rule ip kubeplumb-ipvs filter-input ip protocol icmp accept'],
        /rules of chain filter-input changed/,
      ],
      [
        'foreign elements',
        ['flush set ip kubeplumb-ipvs vips', 'add element ip kubeplumb-ipvs health { 22 }'],
        /vips: 5 elements missing, 0 not ours, health: 0 elements missing, 1 not ours/,
      ],
      [
        'foreign objects',
        [
          'add set ip kubeplumb-ipvs more { type ipv4_addr; }',
          'add chain ip kubeplumb-ipvs another',
          'add rule ip kubeplumb-ipvs another ip saddr @more drop',
        ],
        /rules of chain another changed/,
      ],
      ['no table', ['delete table ip kubeplumb-ipvs'], /IPv4 table missing/],
      [
        'somebody else’s table',
        ['delete table ip kubeplumb-ipvs', 'add table ip kubeplumb-ipvs { comment "mine"; }'],
        /IPv4 table damaged/,
      ],
    ];
    await converge(tables);
    const text = listing();
    for (const [name, commands, description] of cases) {
      nftScript(commands);
      const [ip, ip6] = await stepsTo(tables);
      t.match(describeSteps(ip!), description, name);
      t.ok(noSteps(ip6!));
      await converge(tables);
      t.same(normalised(listing()), normalised(text), `${name}: repaired`);
    }
  });

  t.test('nft declares the sets of the text as we do', async (t) => {
    nftScript([textOf(tablesWith(SETTINGS))]);
    for (const family of FAMILIES) {
      const sets = connection.sets(family, COMPANION_TABLE);
      t.same(sets.map((set) => set.name).sort(), [...COMPANION.setNames].sort());
      for (const { name, flags, keyType, keyLength, userdata } of sets) {
        const own = COMPANION.sets[family][name as CompanionSet];
        t.match(own, { flags, keyType, keyLength }, name);
        // Ours also say that data are no intervals.
        t.ok(own.userdata.startsWith(userdata), `userdata of ${name}`);
      }
    }
  });

  t.test('one family', async (t) => {
    const [table] = tablesWith(SETTINGS);
    await converge([table!]);
    t.same([...(await readCompanion(connection, FAMILIES)).tables.keys()], ['IPv4']);
    t.same([...(await readCompanion(connection, ['IPv6'])).tables.keys()], []);
    t.same([...COMPANION.setNames], [...table!.elements.keys()]);
  });
}
