// The rules about imports: what is read from a source, and what breaks them.
import t from 'tap';

interface Import {
  from: string;
  typeOnly: boolean;
}

const { importsOf, violations } = (await import(
  String(new URL('../../scripts/import-rules.mjs', import.meta.url))
)) as {
  importsOf(source: string): Import[];
  violations(modules: Map<string, Import[]>): string[];
};

t.test('imports of a source', async (t) => {
  const cases: [string, Import[]][] = [
    ["import { a } from './a.ts';", [{ from: './a.ts', typeOnly: false }]],
    ["import type { A } from './a.ts';", [{ from: './a.ts', typeOnly: true }]],
    ["import { type A, type B } from './a.ts';", [{ from: './a.ts', typeOnly: true }]],
    ["import {\n  type A,\n  b,\n} from './a.ts';", [{ from: './a.ts', typeOnly: false }]],
    ["import 'node:fs';", [{ from: 'node:fs', typeOnly: false }]],
    ["import * as fs from 'node:fs';", [{ from: 'node:fs', typeOnly: false }]],
    ["export { a } from './a.ts';", [{ from: './a.ts', typeOnly: false }]],
    ["export type { A } from './a.ts';", [{ from: './a.ts', typeOnly: true }]],
    ["const a = await import('./a.ts');", [{ from: './a.ts', typeOnly: false }]],
    ["// import { a } from './a.ts';\nexport const x = 'from';", []],
  ];
  for (const [source, expected] of cases) t.same(importsOf(source), expected, source);
});

/** The modules of the rules about purity exist, and import nothing, unless said otherwise. */
function found(modules: Record<string, string>): string[] {
  const parsed = new Map(Object.entries(modules).map(([path, source]) => [path, importsOf(source)]));
  return violations(parsed).filter((line) => !line.endsWith('name the file it has become'));
}

t.test('directions', async (t) => {
  t.same(
    found({ 'agent/run.ts': "import { a } from '../backends/a.ts';", 'backends/a.ts': "import '../native/b.ts';" }),
    [],
  );
  t.same(found({ 'native/a.ts': "import type { B } from '../backends/b.ts';" }), [
    'native/a.ts must not import backends/b.ts',
  ]);
  t.same(found({ 'backends/nftables/a.ts': "import { b } from '../../agent/b.ts';" }), [
    'backends/nftables/a.ts must not import agent/b.ts',
  ]);
  t.same(found({ 'agent/a.ts': "import { b } from '../test/b.ts';" }), ['agent/a.ts must not import test/b.ts']);
  t.same(found({ 'agent/a.ts': "import { b } from '../../b.ts';" }), [
    'agent/a.ts imports ../../b.ts, outside of the project',
  ]);
});

t.test('I/O', async (t) => {
  const socket = "import { NetlinkSocket } from '../../native/netlink/socket.ts';";
  t.same(found({ 'backends/nftables/slots.ts': socket }), [
    'backends/nftables/slots.ts must not do I/O: backends/nftables/slots.ts → native/netlink/socket.ts',
  ]);
  t.same(found({ 'backends/nftables/slots.ts': socket.replace('import', 'import type') }), []);
  t.same(found({ 'backends/nftables/backend.ts': socket }), [], 'others may');
  t.same(found({ 'agent/plan/a.ts': "import { b } from '../b.ts';", 'agent/b.ts': "import 'node:fs/promises';" }), [
    'agent/plan/a.ts must not do I/O: agent/plan/a.ts → agent/b.ts → node:fs/promises',
  ]);
  for (const part of ['undici/lib/api/index.js', '@kubernetes/client-node/dist/exec_auth.js']) {
    t.same(found({ 'agent/plan/a.ts': `import a from '${part}';` }), [
      `agent/plan/a.ts must not do I/O: agent/plan/a.ts → ${part}`,
    ]);
  }
  t.same(found({ 'agent/state/a.ts': "import './b.ts';", 'agent/state/b.ts': "import './a.ts';" }), [], 'a ring');
});

t.test('a file of the rules that has gone is told', async (t) => {
  t.match(violations(new Map()).join('\n'), /slots\.ts, which must not do I\/O, does not exist/);
});
