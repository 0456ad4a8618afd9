// What is no longer needed and what is needed, folded to the fewest operations.
import t from 'tap';
import { indexBytes, portBytes, protocolBytes } from '../../../backends/nft-table/fields.ts';
import { diffSet, ReferenceCounts } from '../../../backends/nft-table/operations.ts';
import { ElementChanges, type Elements } from '../../../backends/nftables/changes.ts';
import type { SetName } from '../../../backends/nftables/schema.ts';
import { ipBytes } from '../../../native/ip.ts';
import type { Element } from '../../../native/nftables/batch.ts';
import { u32Host } from '../../../native/nftables/constants.ts';

const KEY_LENGTH = 12;
const FE = ipBytes('10.96.0.1')! + protocolBytes('TCP') + portBytes(80);
const word = (number: number, comment = 'shop/web'): Element => ({ key: FE, data: u32Host(number), comment });
const endpoint = (index: number, data: string): Element => ({ key: FE + indexBytes(index), data });
const LB2 = 0x80010002;
const LB3 = 0x80010003;
const LL2 = 0x80030002;

function reduce(
  change: (changes: ElementChanges) => void,
  references = new ReferenceCounts<SetName>(),
  leftovers: Elements = new Map(),
) {
  const changes = new ElementChanges();
  change(changes);
  const { now, later, reclaimed, references: deltas } = changes.reduce(references, leftovers, KEY_LENGTH);
  const flat = (lists: ReadonlyMap<SetName, Element[]>): [string, Element][] =>
    [...lists].flatMap(([set, elements]) => elements.map((e): [string, Element] => [set, e]));
  return { deletions: flat(now.deletions), additions: flat(now.additions), later: flat(later), reclaimed, deltas };
}

t.test('what is needed before and after is not touched', async (t) => {
  const { deletions, additions } = reduce((changes) => {
    changes.remove('services', word(LB2));
    changes.add('services', word(LB2));
  });
  t.same([deletions, additions], [[], []]);
});

t.test('another value is one deletion and one addition', async (t) => {
  const { deletions, additions, later } = reduce((changes) => {
    changes.add('services', word(LB3)); // in either order
    changes.remove('services', word(LB2));
    changes.remove('endpoints', endpoint(0, 'a'));
    changes.add('endpoints', endpoint(0, 'b'));
    changes.add('endpoints', endpoint(2, 'c'));
  });
  t.same(deletions, [
    ['services', word(LB2)],
    ['endpoints', endpoint(0, 'a')],
  ]);
  t.same(additions, [
    ['services', word(LB3)],
    ['endpoints', endpoint(0, 'b')],
    ['endpoints', endpoint(2, 'c')],
  ]);
  t.same(later, []);
});

t.test('a frontend that passes to another Service gets its comment', async (t) => {
  const { deletions, additions } = reduce((changes) => {
    changes.remove('services', word(LB2, 'shop/old'));
    changes.add('services', word(LB2, 'shop/new'));
  });
  t.same(deletions, [['services', word(LB2, 'shop/old')]]);
  t.same(additions, [['services', word(LB2, 'shop/new')]]);
});

t.test('shared elements are counted', async (t) => {
  const ip: Element = { key: ipBytes('10.96.0.1')! };
  const references = new ReferenceCounts<SetName>();
  const first = reduce((changes) => changes.add('cluster-ips', ip), references);
  t.same(first.additions, [['cluster-ips', ip]]);
  t.equal(references.get('cluster-ips', ip.key), 0, 'nothing is counted before the commit');
  for (const [set, key, delta] of first.deltas) references.change(set, key, delta);
  const second = reduce((changes) => changes.add('cluster-ips', ip), references);
  t.same(second.additions, [], 'it is there');
  for (const [set, key, delta] of second.deltas) references.change(set, key, delta);
  t.equal(references.get('cluster-ips', ip.key), 2);

  t.same(reduce((changes) => changes.remove('cluster-ips', ip), references).deletions, [], 'the other one needs it');
  const both = reduce((changes) => {
    changes.remove('cluster-ips', ip);
    changes.remove('cluster-ips', ip);
  }, references);
  t.same(both.deletions, [['cluster-ips', ip]]);
  const moved = reduce((changes) => {
    changes.remove('cluster-ips', ip);
    changes.add('cluster-ips', ip);
  }, references);
  t.same([moved.deletions, moved.additions, moved.deltas], [[], [], []]);
});

t.test('a frontend whose chain reads another map keeps its old elements for a moment', async (t) => {
  const { deletions, additions, later } = reduce((changes) => {
    changes.remove('services', word(LB2));
    changes.remove('endpoints', endpoint(0, 'a'));
    changes.remove('endpoints', endpoint(1, 'b'));
    changes.add('services', word(LL2));
    changes.add('local-endpoints', endpoint(0, 'a'));
    changes.add('local-endpoints', endpoint(1, 'b'));
  });
  t.same(deletions, [['services', word(LB2)]]);
  t.equal(additions.length, 3);
  t.same(later, [
    ['endpoints', endpoint(0, 'a')],
    ['endpoints', endpoint(1, 'b')],
  ]);
});

t.test('a frontend that goes leaves nothing for later', async (t) => {
  const { deletions, later } = reduce((changes) => {
    changes.remove('services', word(LB2));
    changes.remove('endpoints', endpoint(0, 'a'));
  });
  t.equal(deletions.length, 2);
  t.same(later, []);
});

t.test('what waits for its deletion is known when it is needed again', async (t) => {
  const leftovers: Elements = new Map([['endpoints', new Map([[endpoint(0, 'a').key, endpoint(0, 'a')]])]]);
  const again = reduce((changes) => changes.add('endpoints', endpoint(0, 'a')), undefined, leftovers);
  t.same([again.deletions, again.additions], [[], []], 'it is still there');
  t.same(again.reclaimed, [['endpoints', endpoint(0, 'a').key]], 'and must stay');
  const other = reduce((changes) => changes.add('endpoints', endpoint(0, 'b')), undefined, leftovers);
  t.same(other.deletions, [['endpoints', endpoint(0, 'a')]]);
  t.same(other.additions, [['endpoints', endpoint(0, 'b')]]);
  t.equal(other.reclaimed.length, 1);
});

t.test('the difference between two sets', async (t) => {
  const map = (...elements: Element[]): Map<string, Element> => new Map(elements.map((e) => [e.key, e]));
  const range = (keyEnd: string): Element => ({ key: 'a', keyEnd });
  t.same(diffSet(map(), map()), { deletions: [], additions: [] });
  t.same(diffSet(map(word(LB2)), map(word(LB2))), { deletions: [], additions: [] });
  t.same(diffSet(map(word(LB2)), map()), { deletions: [word(LB2)], additions: [] });
  t.same(diffSet(map(), map(word(LB2))), { deletions: [], additions: [word(LB2)] });
  t.same(diffSet(map(range('b')), map(range('c'))), { deletions: [range('b')], additions: [range('c')] });
});
