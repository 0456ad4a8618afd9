// --init-only that is told to end before it waits for anything.
import t from 'tap';
import { loadConfig } from '../../agent/config/load.ts';
import { initOnly } from '../../agent/init-only.ts';
import { createLog } from '../../agent/log.ts';
import { enterNamespace } from '../support/own-namespace.ts';

if (await enterNamespace(t)) {
  t.test('a signal that came while the kernel was tried ends it', { timeout: 10_000 }, async (t) => {
    const argv = ['--master=http://127.0.0.1:9', '--proxy-mode=nftables', '--hostname-override=node-0'];
    const loaded = loadConfig({ argv, readFile: () => '' });
    if (loaded.action !== 'run') throw new Error(loaded.action);
    const { config } = loaded;
    await t.rejects(initOnly({ config, log: createLog(), stop: AbortSignal.abort() }), {
      message: 'stopped before this node was prepared',
    });
  });
}
