// Which API server is asked next.
import t from 'tap';
import { ServerList } from '../../agent/source/server-list.ts';

t.test('the first that works is kept until it fails; then round and round', async (t) => {
  const list = new ServerList(['a', 'b', 'a', 'c']);
  t.strictSame(list.all, ['a', 'b', 'c']);
  t.strictSame(list.candidates(), ['a', 'b', 'c']);
  list.failed('a');
  t.strictSame(list.candidates(), ['b', 'c', 'a']);
  list.answered('b', 200);
  t.equal(list.current, 'b', 'also when the first is back');
  list.failed('b');
  list.failed('c');
  t.equal(list.current, 'a');
});

t.test('requests that fail together move on by one server', async (t) => {
  const list = new ServerList(['a', 'b', 'c']);
  for (let i = 0; i < 4; i++) list.failed('a');
  t.equal(list.current, 'b');
});

t.test('a server whose errors last has failed; a single one is none', async (t) => {
  const list = new ServerList(['a', 'b']);
  for (const status of [500, 503, 200, 500, 503, 404, 500, 500]) list.answered('a', status);
  t.equal(list.current, 'a');
  list.answered('a', 502);
  t.equal(list.current, 'b');
  for (const status of [500, 500]) list.answered('b', status);
  list.answered('a', 500);
  t.equal(list.current, 'b', 'a late answer of another server does not count');
});

t.test('a server of last resort comes last', async (t) => {
  const list = new ServerList(['a', 'b']);
  list.failed('a');
  list.add('c');
  list.add('a');
  t.strictSame(list.candidates(), ['b', 'c', 'a']);
});

t.test('a single server stays', async (t) => {
  const list = new ServerList(['a']);
  list.failed('a');
  for (let i = 0; i < 9; i++) list.answered('a', 500);
  t.strictSame(list.candidates(), ['a']);
});
