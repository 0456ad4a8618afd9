// Lines from chunks of bytes.
import t from 'tap';
import { ByteLines } from '../../agent/source/byte-lines.ts';

t.test('any way of cutting gives the same lines', (t) => {
  const bytes = Buffer.from('eins\n\nzwölf–東京\n{"a":1}\nrest');
  for (let size = 1; size <= bytes.length; size++) {
    const lines = new ByteLines();
    const got: string[] = [];
    for (let i = 0; i < bytes.length; i += size) got.push(...lines.push(bytes.subarray(i, i + size)));
    t.same(got, ['eins', 'zwölf–東京', '{"a":1}'], `chunks of ${size}`);
    t.equal(lines.pendingBytes, 4);
  }
  t.end();
});

t.test('a line without end is an error', (t) => {
  const lines = new ByteLines(100);
  t.same([...lines.push(Buffer.alloc(60, 'x'))], []);
  t.throws(() => [...lines.push(Buffer.alloc(60, 'x'))], /more than 100 bytes/);
  t.end();
});
