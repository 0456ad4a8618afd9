// The pure parts of the demo: what it expects of connections, how it edits a manifest, what it shows of long texts.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { plainStyle } from '../agent/ctl/terminal.ts';
import { parseManifest } from '../agent/source/manifest-file.ts';
import { isGood, judge, type Row, table, tour } from '../examples/demo/connections.ts';
import { blocks, changedLines, explanation, indented } from '../examples/demo/excerpt.ts';
import { Progress } from '../examples/demo/progress.ts';
import { Shop, withTerminating } from '../examples/demo/shop.ts';
import type { Attempt } from './support/host-calls.ts';

const FOLDER = fileURLToPath(new URL('../examples/shop', import.meta.url));
const shop = new Shop(FOLDER);
const POD_IPS = ['10.244.1.20', 'fd00:244:1::20'];

const answer = (host: string, peer: string): Attempt => ({
  outcome: 'answered',
  host,
  port: 8080,
  peer,
  peerPort: 40000,
  tookMs: 1,
});
const refused: Attempt = { outcome: 'refused', code: 'ECONNREFUSED', tookMs: 1 };

const ROW: Row = {
  from: 'cart-a',
  to: shop.clusterIP('shop/frontend'),
  times: 2,
  answeredBy: ['frontend-a', 'frontend-b'],
  sees: 'client',
};

t.test('connections are judged', async (t) => {
  const own = '10.244.1.20';
  const ipv6 = { ...ROW, to: shop.clusterIP('shop/frontend', 'IPv6') };
  const cases: { name: string; row: Row; attempts: Attempt[]; good: number }[] = [
    { name: 'all well', row: ROW, attempts: [answer('frontend-a', own), answer('frontend-b', own)], good: 2 },
    { name: 'a wrong pod', row: ROW, attempts: [answer('frontend-a', own), answer('cart-b', own)], good: 1 },
    {
      name: 'masqueraded',
      row: ROW,
      attempts: [answer('frontend-a', '172.18.0.2'), answer('frontend-a', own)],
      good: 1,
    },
    { name: 'not masqueraded', row: { ...ROW, sees: 'node' }, attempts: [answer('frontend-a', own), refused], good: 0 },
    { name: 'no answer', row: ROW, attempts: [answer('frontend-a', own), refused], good: 1 },
    { name: 'too few', row: ROW, attempts: [answer('frontend-a', own)], good: 1 },
    {
      name: 'the address of the family',
      row: ipv6,
      attempts: [answer('frontend-a', POD_IPS[1]!), answer('frontend-a', own)],
      good: 1,
    },
    {
      name: 'affinity not kept',
      row: { ...ROW, sticky: true },
      attempts: [answer('frontend-a', own), answer('frontend-b', own)],
      good: 1,
    },
  ];
  for (const { name, row, attempts, good } of cases) {
    const judged = judge(row, attempts, POD_IPS);
    t.equal(judged.good, good, name);
    t.equal(isGood(judged), good === row.times, name);
  }
});

t.test('a wrong row says what was expected', async (t) => {
  const rows = [judge({ ...ROW, sticky: true }, [answer('frontend-a', '172.18.0.2'), refused], POD_IPS)];
  const [head = '', line = ''] = table(rows, () => POD_IPS, plainStyle).split('\n');
  t.match(head, /^ +OK +FROM +TO +SERVICE +ANSWERED BY +SOURCE IP THE POD SAW$/);
  t.equal(
    line.trim().split(/ {2,}/).join(' | '),
    'WRONG | cart-a | cluster IP 10.96.0.30:80 | shop/frontend | frontend-a, refused | 172.18.0.2 (node) | ' +
      'expected: always the same one of frontend-a or frontend-b, seeing 10.244.1.20',
  );
});

t.test('every Service that is programmed is visited, or is the API server', async (t) => {
  const visited = new Set(tour(shop).map(({ to }) => to.service));
  t.same(
    shop.services.filter((service) => !visited.has(service)),
    ['default/kubernetes', 'shop/payments'],
  );
  const pods = new Set(shop.pods.map(({ name }) => name));
  for (const { answeredBy } of tour(shop)) for (const pod of answeredBy) t.ok(pods.has(pod), pod);
});

t.test('a pod begins to shut down', async (t) => {
  const text = readFileSync(`${FOLDER}/frontend.yaml`, 'utf8');
  const after = withTerminating(text, 'frontend-b');
  t.same(changedLines(text, after), [
    '- conditions: { ready: true, serving: true, terminating: false }',
    '+ conditions: { ready: false, serving: true, terminating: true }',
  ]);
  const { objects, errors } = parseManifest(after);
  t.same(errors, []);
  const conditions = objects.flatMap(({ object }) => (object.endpoints ?? []) as { conditions: { ready: boolean } }[]);
  t.same(
    conditions.map((endpoint) => endpoint.conditions.ready),
    [true, false, true, false],
    'in both families',
  );
  t.throws(() => withTerminating(after, 'frontend-b'), /no ready endpoint of pod frontend-b/);
});

t.test('excerpts', async (t) => {
  const listing =
    'table ip x {\n\tmap a {\n\t\ttypeof ip daddr : verdict\n\t\telements = { 10.0.0.1 : drop,\n\t\t\t     10.0.0.2 : drop }\n\t}\n\n\tmap b {\n\t}\n}\n';
  t.equal(
    blocks(listing, ['map a']),
    'map a {\n    typeof ip daddr : verdict\n    elements = { 10.0.0.1 : drop,\n                 10.0.0.2 : drop }\n}\n',
  );
  t.equal(explanation('Service a/b\n\nRules\n\ntable ip x {\n}\n'), 'Service a/b\n');
  t.equal(explanation('Service a/b\n'), 'Service a/b\n');
  t.equal(indented('a\n\n  b\n'), '  a\n\n    b');
});

t.test('a step tells its time, and its failure', async (t) => {
  let text = '';
  let now = 0;
  const write = (part: string): void => {
    text += part;
  };
  const progress = new Progress({ write, style: plainStyle, nowMs: () => (now += 20) });
  t.equal(
    await progress.step(
      'one',
      () => 7,
      (seven) => `got ${seven}`,
    ),
    7,
  );
  await t.rejects(
    progress.step('two', () => {
      throw new Error('no');
    }),
    { message: 'no' },
  );
  t.equal(text, '  one ... got 7 (20 ms)\n  two ... failed\n');
});
