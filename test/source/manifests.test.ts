// Files and folders of manifests, and their changes.
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ManifestsSource } from '../../agent/source/manifests.ts';
import { systemTimers } from '../../agent/source/timers.ts';
import { NODE_NAME, RecordingLog, RecordingSink, until } from './harness.ts';

const svc = (name: string, fields = '') =>
  `kind: Service\nmetadata: {name: ${name}}\nspec: {clusterIP: 10.96.0.1${fields}}\n`;

function start(t: Test, files: Parameters<Test['testdir']>[0], paths: readonly string[] = ['']) {
  const dir = t.testdir(files);
  const sink = new RecordingSink();
  const log = new RecordingLog();
  // The slow poll never comes; changes are noticed by the file system's events.
  const after = (ms: number, fn: () => void) => (ms >= 30_000 ? () => {} : systemTimers.after(Math.min(ms, 5), fn));
  const source = new ManifestsSource({
    paths: paths.map((p) => join(dir, p)),
    nodeName: NODE_NAME,
    log,
    timers: { ...systemTimers, after },
  });
  source.start(sink);
  t.teardown(() => source.stop());
  return { dir, sink, log, source };
}

const complete = (source: ManifestsSource) => until('complete', () => source.status().every((s) => s.complete));

t.test('a folder is read in depth; what the API selectors exclude is left out', async (t) => {
  const { sink, source } = start(t, {
    'a.yaml': `${svc('a')}---\n${svc('b', ', x: 1')}---\nkind: Service\nmetadata: {name: h}\nspec: {clusterIP: None}\n`,
    'notes.txt': svc('no'),
    '.hidden.yaml': svc('no'),
    sub: {
      'n.yml': `kind: Node\nmetadata: {name: ${NODE_NAME}}\n---\nkind: Node\nmetadata: {name: other}\n`,
      'p.json': JSON.stringify({
        kind: 'Service',
        metadata: { name: 'p', labels: { 'service.kubernetes.io/service-proxy-name': 'x' } },
      }),
    },
  });
  await complete(source);
  t.same([...sink.objects.keys()], ['Service default/a', 'Service default/b', `Node /${NODE_NAME}`]);
  t.same(sink.calls.filter((c) => c.startsWith('=')).sort(), ['=EndpointSlice', '=Node', '=Service', '=ServiceCIDR']);
  t.match(
    source.status().find((s) => s.kind === 'Service'),
    { objects: 2, lastError: null, complete: true },
  );
});

t.test('changes deliver the difference only', async (t) => {
  const { dir, sink, source } = start(t, { 'a.yaml': svc('a'), 'b.yaml': `${svc('b')}---\n${svc('c')}` });
  await complete(source);
  sink.calls.length = 0;
  writeFileSync(join(dir, 'b.yaml'), `${svc('b')}---\n${svc('c', ', type: NodePort')}---\n${svc('d')}`);
  await until('d', () => sink.objects.has('Service default/d'));
  t.same(sink.calls, ['+Service default/c', '+Service default/d']);
  rmSync(join(dir, 'a.yaml'));
  await until('a is gone', () => !sink.objects.has('Service default/a'));
  mkdirSync(join(dir, 'sub'));
  writeFileSync(join(dir, 'sub', 'e.yaml'), svc('e'));
  await until('e', () => sink.objects.has('Service default/e'));
  t.same(sink.calls.slice(2), ['-Service default/a', '+Service default/e']);
});

t.test('a file that is replaced by another of its name', async (t) => {
  const { dir, sink, source } = start(t, { 'a.yaml': svc('a') }, ['a.yaml']);
  await complete(source);
  writeFileSync(join(dir, 'a.tmp'), svc('b'));
  renameSync(join(dir, 'a.tmp'), join(dir, 'a.yaml'));
  await until('b', () => sink.objects.has('Service default/b'));
  t.notOk(sink.objects.has('Service default/a'));
});

t.test('a mounted ConfigMap, whose link is switched', async (t) => {
  const { dir, sink, source } = start(t, { '..1': { 'a.yaml': svc('a') }, '..2': { 'a.yaml': svc('b') } });
  await complete(source);
  t.equal(sink.objects.size, 0);
  symlinkSync('..1', join(dir, '..data'));
  symlinkSync('..data/a.yaml', join(dir, 'a.yaml'));
  await until('a', () => sink.objects.has('Service default/a'));
  symlinkSync('..2', join(dir, '..data_tmp'));
  renameSync(join(dir, '..data_tmp'), join(dir, '..data'));
  await until('b', () => sink.objects.has('Service default/b'));
});

t.test('a file that breaks keeps its objects; one broken from the start gives its good documents', async (t) => {
  const { dir, sink, source, log } = start(t, { 'a.yaml': svc('a'), 'z.yaml': `${svc('z')}---\n- 1\n` });
  await complete(source);
  t.same([...sink.objects.keys()], ['Service default/a', 'Service default/z']);
  t.match(source.status()[0]?.lastError, /z\.yaml: document 2, line 5: not an object/);
  writeFileSync(join(dir, 'a.yaml'), `${svc('b')}---\nkind: [\n`);
  await until('the error', () => log.count('a.yaml: document 2') === 1);
  t.same([...sink.objects.keys()], ['Service default/a', 'Service default/z']);
  writeFileSync(join(dir, 'a.yaml'), svc('b'));
  await until('b', () => sink.objects.has('Service default/b'));
  t.notOk(sink.objects.has('Service default/a'));
  t.equal(log.count('z.yaml'), 1, 'an error that stays is logged once');
});

t.test('of two definitions the first file counts, until it goes', async (t) => {
  const { dir, sink, source, log } = start(t, { 'a.yaml': svc('s', ', n: 1'), 'b.yaml': svc('s', ', n: 2') });
  await complete(source);
  const n = () => (sink.objects.get('Service default/s') as { spec: { n: number } }).spec.n;
  t.equal(n(), 1);
  t.equal(log.count('b.yaml: Service default/s is ignored, it is defined in'), 1);
  rmSync(join(dir, 'a.yaml'));
  await until('the other', () => n() === 2);
  t.notOk(sink.calls.includes('-Service default/s'));
});

t.test(
  'nothing is delivered before all paths could be read; a path that vanishes later keeps its objects',
  async (t) => {
    const { dir, sink, source } = start(t, { 'a.yaml': svc('a'), sub: {} }, ['a.yaml', 'sub/late']);
    await until('the error', () => source.status()[0]?.lastError?.includes('ENOENT') === true);
    t.same(sink.calls, []);
    mkdirSync(join(dir, 'sub/late'));
    writeFileSync(join(dir, 'sub/late/b.yaml'), svc('b'));
    // The folder is not watched yet, but the other path is.
    writeFileSync(join(dir, 'a.yaml'), svc('a2'));
    await complete(source);
    t.same([...sink.objects.keys()].sort(), ['Service default/a2', 'Service default/b']);
    rmSync(join(dir, 'a.yaml'));
    await until('the error', () => source.status()[0]?.lastError?.includes('a.yaml') === true);
    t.ok(sink.objects.has('Service default/a2'));
  },
);

t.test('the receiver may keep and change what it gets', async (t) => {
  const { dir, sink, source } = start(t, { 'a.yaml': svc('s', ', n: 1'), 'b.yaml': svc('s', ', n: 2') });
  await complete(source);
  Object.assign(sink.objects.get('Service default/s') as object, { spec: null });
  writeFileSync(join(dir, 'c.yaml'), svc('c'));
  await until('c', () => sink.objects.has('Service default/c'));
  rmSync(join(dir, 'a.yaml'));
  await until(
    'the other',
    () => (sink.objects.get('Service default/s') as { spec: { n: number } | null }).spec?.n === 2,
  );
});
