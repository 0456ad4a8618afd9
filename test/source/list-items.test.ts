// Items of a List from chunks of bytes.
import t from 'tap';
import { ListItems } from '../../agent/source/list-items.ts';

const ITEMS = [
  { metadata: { name: 'a', annotations: { x: '"]},{\\', items: '[' } }, spec: { items: [1, [2], { b: [] }] } },
  {},
  { metadata: { name: 'ü–東京' } },
];

for (const [name, list] of [
  [
    'metadata first',
    { kind: 'ServiceList', apiVersion: 'v1', metadata: { resourceVersion: '7', continue: 'x' }, items: ITEMS },
  ],
  [
    'items first',
    { items: ITEMS, kind: 'ServiceList', metadata: { resourceVersion: '7', continue: 'x', z: ['items', [1]] } },
  ],
] as const) {
  for (const indent of [0, 2]) {
    t.test(`${name}, indented by ${indent}`, (t) => {
      const bytes = Buffer.from(`${JSON.stringify(list, null, indent)}\n`);
      for (const size of [1, 2, 3, 17, bytes.length]) {
        const reader = new ListItems();
        const items: unknown[] = [];
        for (let i = 0; i < bytes.length; i += size) {
          for (const text of reader.push(bytes.subarray(i, i + size))) items.push(JSON.parse(text));
        }
        t.same(items, ITEMS, `chunks of ${size}`);
        t.same(reader.finish(), { resourceVersion: '7', continueToken: 'x', kind: 'ServiceList' });
      }
      t.end();
    });
  }
}

t.test('empty and null items', (t) => {
  for (const items of ['[]', 'null']) {
    const reader = new ListItems();
    t.same([...reader.push(Buffer.from(`{"metadata":{"resourceVersion":"3"},"items":${items}}`))], []);
    t.equal(reader.finish().resourceVersion, '3');
    t.equal(new ListItems().push(Buffer.from('')).next().done, true);
  }
  t.end();
});

t.test('what ends early or is no list is an error', (t) => {
  for (const text of [
    '',
    '{"metadata":{"resourceVersion":"3"},"items":[{"a":1}',
    '{"kind":"Status"}',
    '<html>',
    '[]',
  ]) {
    t.throws(() => {
      const reader = new ListItems();
      for (const _ of reader.push(Buffer.from(text)));
      reader.finish();
    }, text || 'nothing');
  }
  t.end();
});
