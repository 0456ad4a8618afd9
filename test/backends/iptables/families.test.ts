// A node that can hold rules of one family only (I-50): that one is served, and the operator is told.
import t from 'tap';
import { NO_EVENTS } from '../../../backends/backend.ts';
import { IptablesBackend } from '../../../backends/iptables/backend.ts';
import type { RuleChanges } from '../../../backends/iptables/rule-changes.ts';
import type { RuleWriter } from '../../../backends/iptables/rule-writer.ts';
import type { Family } from '../../../native/ip.ts';
import { SETTINGS } from '../../support/plans.ts';

function backendOf(unable: Partial<Record<Family, string>>) {
  const notes: string[] = [];
  const committed: RuleChanges[] = [];
  const writer: RuleWriter = {
    variant: 'legacy',
    probe: async (family) => unable[family] ?? null,
    async read(family) {
      if (unable[family]) throw new Error(`${family} must not be read`);
      return { generation: 0, settled: true, tables: new Map() };
    },
    async commit(changes) {
      committed.push(...changes);
      const handles = new Map(changes.flatMap(({ insert = [] }) => insert.map((i, n) => [i, n + 1] as const)));
      return { outcome: 'committed', handles, counts: { transactions: 1, messages: 1, bytes: 1 } };
    },
    close() {},
  };
  const backend = new IptablesBackend({
    events: { ...NO_EVENTS, note: (message) => notes.push(message) },
    open: async () => ({ writer, nfacct: [], watch: { start() {}, stop() {} }, removeLeftovers: null }),
    prepare() {},
    cleanup: async () => [],
  });
  return { backend, notes, committed };
}

t.test('one family', async (t) => {
  const { backend, notes, committed } = backendOf({ IPv6: 'no table nat' });
  await backend.probe();
  t.match(notes, [/IPv6: no table nat/]);
  await backend.start(SETTINGS, []);
  t.same(
    committed.map(({ family }) => family),
    ['IPv4'],
  );
  await backend.close();
});

t.test('both', async (t) => {
  const { backend, notes, committed } = backendOf({});
  await backend.probe();
  await backend.start(SETTINGS, []);
  t.same(notes, []);
  t.same(committed.map(({ family }) => family).sort(), ['IPv4', 'IPv6']);
  await backend.close();
});

t.test('none', async (t) => {
  const { backend } = backendOf({ IPv4: 'no table nat', IPv6: 'no module' });
  await t.rejects(backend.probe(), /IPv4: no table nat; IPv6: no module/);
  await backend.close();
});
