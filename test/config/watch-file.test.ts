// The configuration file changes while the agent runs (P-27).
import { appendFileSync, chmodSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ConfigFileWatch } from '../../agent/config/watch-file.ts';

function start(t: Test, path: string) {
  const { promise, resolve } = Promise.withResolvers<string>();
  const watch = new ConfigFileWatch({ path, onChange: resolve, onError: (error) => resolve(`error: ${error}`) });
  watch.start();
  t.teardown(() => watch.stop());
  return { watch, changed: promise };
}

const folder = (t: Test): string => t.testdir({ config: 'mode: ipvs\n' });

t.test('written', async (t) => {
  const path = join(folder(t), 'config');
  const { changed } = start(t, path);
  // A debugger's poll of the event loop must go on: the watch itself does not keep it alive.
  const alive = setInterval(() => {}, 1000);
  t.teardown(() => clearInterval(alive));
  appendFileSync(path, 'x');
  t.equal(await changed, `the configuration file ${path} was written`);
});

t.test('renamed', async (t) => {
  const path = join(folder(t), 'config');
  const { changed } = start(t, path);
  const alive = setInterval(() => {}, 1000);
  t.teardown(() => clearInterval(alive));
  renameSync(path, `${path}.old`);
  t.equal(await changed, `the configuration file ${path} was renamed`);
});

t.test('attributes, removal and replacement are no reason', async (t) => {
  const dir = folder(t);
  const path = join(dir, 'config');
  const { watch } = start(t, path);
  chmodSync(path, 0o600);
  t.equal(watch.judge('change'), null, 'attributes');
  writeFileSync(path, 'mode: ipvs\n');
  t.equal(watch.judge('change'), null, 'written as it was');
  writeFileSync(join(dir, 'new'), 'mode: nftables\n');
  renameSync(join(dir, 'new'), path);
  t.equal(watch.judge('change'), null, 'another file took its name');
  t.equal(watch.judge('rename'), null, 'removed');
});

t.test('a mounted ConfigMap is updated', async (t) => {
  const dir = t.testdir({ '1': { config: 'a' }, '2': { config: 'b' } });
  symlinkSync('1', join(dir, '..data'));
  symlinkSync('..data/config', join(dir, 'config'));
  const { watch } = start(t, join(dir, 'config'));
  symlinkSync('2', join(dir, '..data_tmp'));
  renameSync(join(dir, '..data_tmp'), join(dir, '..data'));
  unlinkSync(join(dir, '1/config'));
  t.equal(watch.judge('change'), null);
  t.equal(watch.judge('rename'), null);
});

t.test('a file that is gone', async (t) => {
  const { changed } = start(t, join(t.testdir({}), 'config'));
  t.match(await changed, /^error: .*ENOENT/);
});
