// Where nobody tells of changes: a repair that fails is a condition until the rules are right again, whoever put them right.
import t from 'tap';
import { type BackendEvents, NO_EVENTS } from '../../../backends/backend.ts';
import { CanaryWatch } from '../../../backends/iptables/canary-watch.ts';

t.test('a repair that fails', async (t) => {
  const told: string[] = [];
  const steps = [
    { canary: false, works: false },
    { canary: false, works: false },
    { canary: true, works: true },
    { canary: false, works: false },
    { canary: false, works: true },
  ];
  const done = Promise.withResolvers<void>();
  let step = -1;
  const events: BackendEvents = {
    ...NO_EVENTS,
    condition: (name, message) => told.push(`${name} ${message === null ? 'ended' : 'began'}`),
    error: (message) => told.push(message),
  };
  const watch = new CanaryWatch({
    periodMs: 1,
    exclusively: (work) => work(),
    families: () => ['IPv4'],
    events,
    writer: {
      async hasCanary() {
        if (++step === steps.length) done.resolve();
        return steps[step]?.canary ?? true;
      },
    },
    async repair() {
      if (!steps[step]?.works) throw new Error('refused');
      return null;
    },
  });
  const keepAlive = setInterval(() => {}, 1000); // the watch's own timer keeps no process
  watch.start();
  await done.promise;
  watch.stop();
  clearInterval(keepAlive);
  t.strictSame(told, [
    'cannot repair the rules',
    'RulesNotRepaired began',
    'cannot repair the rules',
    'RulesNotRepaired ended',
    'cannot repair the rules',
    'RulesNotRepaired began',
    'RulesNotRepaired ended',
  ]);
});
